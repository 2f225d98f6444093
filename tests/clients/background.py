"""Simulator and proxy in a thread of their own, for clients that block."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager
from typing import Any, TypeVar

from sai_proxy.simulator import RecordedCall, Simulator, simulator
from tests.support import Proxy, running_proxy

T = TypeVar("T")


class Background:
    """A loop in a thread, with a simulator and the proxies that were started in it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._stack = AsyncExitStack()
        self.sai: Simulator = self.run(self._stack.enter_async_context(simulator()))

    def run(self, coroutine: Coroutine[Any, Any, T], timeout_s: float = 30) -> T:
        """Its result, from the thread's loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout_s)

    def enter(self, context: AbstractAsyncContextManager[T]) -> T:
        """What a context gives, which lasts as long as this."""
        return self.run(self._stack.enter_async_context(context))

    def start_proxy(self, **changes: str) -> Proxy:
        return self.run(self._stack.enter_async_context(running_proxy(self.sai, **changes)))

    def wait_until_ended(self, call: RecordedCall, timeout_s: float = 3) -> None:
        """Returns when SAI is rid of `call`. Raises TimeoutError."""

        async def ended() -> None:
            await asyncio.wait_for(call.ended.wait(), timeout_s)

        self.run(ended())

    def stop(self) -> None:
        self.run(self._stack.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@contextmanager
def background() -> Iterator[Background]:
    running = Background()
    try:
        yield running
    finally:
        running.stop()
