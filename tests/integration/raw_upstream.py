"""A SAI that sends exactly the bytes it is told, for what no HTTP library would send."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

Step = bytes | float
"""Bytes to send, or seconds to wait before the next."""


@dataclass
class RawUpstream:
    """steps: what every request is answered. open: connections that are open now. heads: what was
    received up to the end of each request's headers. accepted: how many connections there have been."""

    steps: Sequence[Step]
    url: str = ""
    open: set[asyncio.StreamWriter] = field(default_factory=set)
    heads: list[bytes] = field(default_factory=list)
    accepted: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open.add(writer)
        self.accepted += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):  # after the last request's body
                self.heads.append(head)
                for step in self.steps:
                    if isinstance(step, bytes):
                        writer.write(step)
                        await writer.drain()
                    else:
                        await asyncio.sleep(step)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open.discard(writer)
            writer.close()


@asynccontextmanager
async def raw_upstream(*steps: Step) -> AsyncIterator[RawUpstream]:
    """Listens while the context lasts. A connection stays open until its caller closes it."""
    upstream = RawUpstream(steps)
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    upstream.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield upstream


def head(*headers: str, status: str = "200 OK") -> bytes:
    """A response's head."""
    return "\r\n".join((f"HTTP/1.1 {status}", *headers, "", "")).encode()
