"""The way of one question over a connection, where SAI does not take it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest

from tests.support import running_proxy, until

LONG = "x" * 6_000_000
"""More than kernels take for a SAI that does not read."""

QUESTIONS = 4


@asynccontextmanager
async def sai_that_does_not_read(answer: bytes) -> AsyncIterator[str]:
    """It writes `answer` as soon as something comes, and reads no more."""
    open_: set[asyncio.Transport] = set()

    class Deaf(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self._transport = cast(asyncio.Transport, transport)
            open_.add(self._transport)

        def data_received(self, data: bytes) -> None:
            self._transport.pause_reading()
            self._transport.write(answer)

    server = await asyncio.get_running_loop().create_server(Deaf, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for transport in open_:
            transport.abort()


def sockets() -> int:
    """Open ones of this process."""
    found = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            found += str(descriptor.readlink()).startswith("socket:")
        except FileNotFoundError:  # of the look itself
            continue
    return found


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"], ids=["silent", "early"])
async def test_a_question_that_sai_does_not_take_leaves_no_connection(answer: bytes) -> None:
    """Closed in order, it would wait for ever for what it had still to write."""
    changes = {"REQUEST_TIMEOUT": "0.3", "CONTEXT_LIMIT_TOKENS": "10000000"}
    async with sai_that_does_not_read(answer) as url, running_proxy(url, **changes) as proxy:
        await proxy.ask(LONG)
        before = sockets()
        for _ in range(QUESTIONS):
            assert (await proxy.ask(LONG)).status == (200 if answer else 504)
        await until(lambda: sockets() <= before + QUESTIONS)  # SAI's own ends, at which it does not look
