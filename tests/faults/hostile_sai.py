"""A SAI that answers whatever it is told, as fast as it can, and decodes nothing of what it is asked."""

import asyncio
import re
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random

MIB = 2**20

Answer = Callable[[], AsyncIterator[bytes]]
"""Makes the bytes of an answer, head included; its end ends the connection."""


@dataclass
class HostileSai:
    """reads: whether it reads what it is asked. calls: how many have arrived, body included if it reads.
    sent: how many bytes have been taken from it."""

    answer: Answer
    reads: bool = True
    url: str = ""
    calls: int = 0
    sent: int = 0
    closed: bool = False
    serving: "set[asyncio.Task[None] | None]" = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self.serving.add(task)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
            left = int(length[1]) if length and self.reads else 0
            while left and (data := await reader.read(min(left, MIB))):
                left -= len(data)
            self.calls += 1
            async for piece in self.answer():
                writer.write(piece)
                await writer.drain()
                self.sent += len(piece)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self.serving.discard(task)
            writer.transport.abort() if self.closed else writer.close()


@asynccontextmanager
async def hostile_sai(answer: Answer, *, reads: bool = True) -> AsyncIterator[HostileSai]:
    """Listens while the context lasts."""
    sai = HostileSai(answer, reads)
    server = await asyncio.start_server(sai.serve, "127.0.0.1", 0)
    sai.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield sai
    finally:
        sai.closed = True
        server.close()
        if tasks := {task for task in sai.serving if task is not None}:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


def head(*headers: str, status: str = "200 OK") -> bytes:
    """A response's head; the body lasts until the connection's end."""
    return "\r\n".join((f"HTTP/1.1 {status}", "Connection: close", *headers, "", "")).encode()


PLAIN = "Content-Type: text/plain; charset=utf-8"
GZIP = "Content-Encoding: gzip"
JSON = "Content-Type: application/json"


def says(body: bytes, *headers: str, status: str = "200 OK") -> Answer:
    """An answer that is always the same."""

    async def answer() -> AsyncIterator[bytes]:
        yield head(*(headers or (PLAIN,)), f"Content-Length: {len(body)}", status=status)
        yield body

    return answer


def repeats(piece: bytes, size: int, start: bytes = head(PLAIN)) -> Answer:
    """`piece` after `start`, again and again until so many bytes are sent."""

    async def answer() -> AsyncIterator[bytes]:
        yield start
        for _ in range(-(-size // len(piece))):
            yield piece

    return answer


def silence() -> Answer:
    """No answer."""

    async def answer() -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""

    return answer


def packed(piece: bytes, size: int, *, first: bytes = b"", last: bytes = b"", noise: int = 0) -> bytes:
    """gzip of `piece` again and again, some `size` bytes in all, between `first` and `last`. noise: bytes of
    each MiB that do not compress, so that the whole inflates less."""
    packer, random = zlib.compressobj(9, zlib.DEFLATED, 31), Random(1)
    block = piece * (MIB // len(piece))
    parts = [packer.compress(first)]
    for _ in range(size // len(block)):
        parts += [packer.compress(block), packer.compress(random.randbytes(noise).hex().encode())]
    parts += [packer.compress(last), packer.flush()]
    return b"".join(parts)
