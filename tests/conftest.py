"""Fixtures of the whole suite."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from sai_proxy.simulator import Simulator, simulator
from tests.support import Proxy, running_proxy

StartProxy = Callable[..., Awaitable[Proxy]]


@pytest.fixture
async def sai() -> AsyncIterator[Simulator]:
    """SAI, played over a real socket."""
    async with simulator() as running:
        yield running


@pytest.fixture
async def start_proxy(sai: Simulator) -> AsyncIterator[StartProxy]:
    """Starts a proxy in front of `sai`, configured by environment variables."""
    async with AsyncExitStack() as stack:

        async def start(**changes: str) -> Proxy:
            return await stack.enter_async_context(running_proxy(sai, **changes))

        yield start


@pytest.fixture
async def proxy(start_proxy: StartProxy) -> Proxy:
    """A proxy with default settings, in English and without retries."""
    return await start_proxy()
