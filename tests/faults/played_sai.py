"""A SAI over a real socket that does to each call what a test wants: byte by byte, or not at all."""

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from tests.integration.raw_upstream import head


@dataclass
class Call:
    """One request as SAI received it. number: from 1 on, over all connections, whose numbers start
    at 1, too."""

    number: int
    connection: int
    head: bytes
    body: bytes
    _writer: asyncio.StreamWriter

    @property
    def key(self) -> str | None:
        return header(self.head, "x-api-key")

    @property
    def cookie(self) -> str | None:
        return header(self.head, "cookie")

    async def send(self, data: bytes) -> None:
        """Out of this process before it returns, so that the next bytes travel in another packet."""
        self._writer.write(data)
        transport = self._writer.transport
        while transport.get_write_buffer_size():
            await asyncio.sleep(0.001)
            if transport.is_closing():
                raise ConnectionResetError

    def send_soon(self, data: bytes) -> None:
        """At once, as far as the kernel takes it; what follows may travel in the same packet."""
        self._writer.write(data)

    def end(self) -> None:
        """Close the connection in good order."""
        self._writer.close()

    def reset(self) -> None:
        """Close the connection with an RST, as a crashing peer's kernel does."""
        sock = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


Behaviour = Callable[[Call], Awaitable[None]]


def header(request: bytes, name: str) -> str | None:
    for line in request.decode("latin-1").split("\r\n")[1:]:
        found, _, value = line.partition(": ")
        if found.lower() == name:
            return value
    return None


class Inbox:
    """What a caller sends, read as it comes, so that it is seen to leave at any time."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._data = bytearray()
        self._news = asyncio.Event()
        self.left = asyncio.ensure_future(self._read())

    async def request(self) -> tuple[bytes, bytes] | None:
        """Head and body of the next request, or None if there is no other."""
        while not self.left.done() or b"\r\n\r\n" in self._data:
            request, end, rest = bytes(self._data).partition(b"\r\n\r\n")
            length = int(header(request, "content-length") or 0) if end else 0
            if end and len(rest) >= length:
                del self._data[: len(request) + len(end) + length]
                return request, rest[:length]
            self._news.clear()
            await self._news.wait()
        return None

    async def _read(self) -> None:
        with suppress(ConnectionError):
            while piece := await self._reader.read(2**16):
                self._data += piece
                self._news.set()
        self._news.set()


@dataclass
class PlayedSai:
    """calls: all that arrived, oldest first. connections: how many there have been. open: those that are
    open now."""

    behaviour: Behaviour
    url: str = ""
    calls: list[Call] = field(default_factory=list)
    connections: int = 0
    open: set[asyncio.StreamWriter] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        connection = self.connections
        self.open.add(writer)
        inbox = Inbox(reader)
        try:
            while not writer.is_closing() and (request := await inbox.request()):
                call = Call(len(self.calls) + 1, connection, *request, writer)
                self.calls.append(call)
                await self._behave(call, inbox.left)
        finally:
            self.open.discard(writer)
            inbox.left.cancel()
            writer.close()

    async def _behave(self, call: Call, left: "asyncio.Future[None]") -> None:
        """Until the caller leaves."""
        behaving = asyncio.ensure_future(self.behaviour(call))
        try:
            await asyncio.wait({behaving, left}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            behaving.cancel()
            with suppress(ConnectionError, asyncio.CancelledError):
                await behaving

    @property
    def connections_of_calls(self) -> list[int]:
        return [call.connection for call in self.calls]

    @property
    def keys(self) -> list[str]:
        """Who asked: each call's key, or else its cookie."""
        return [call.key or call.cookie or "" for call in self.calls]


@asynccontextmanager
async def played_sai(
    behaviour: Behaviour | bytes, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[PlayedSai]:
    """Listens while the context lasts. Bytes answer every call."""
    sai = PlayedSai(answering(behaviour) if isinstance(behaviour, bytes) else behaviour)
    server = await asyncio.start_server(sai.serve, host, port, ssl=tls)
    sai.url = f"http{'s' if tls else ''}://{host}:{server.sockets[0].getsockname()[1]}"
    try:
        yield sai
    finally:
        server.close()
        for writer in [*sai.open]:
            writer.transport.abort()


def answering(response: bytes) -> Behaviour:
    """Every call gets this."""

    async def answer(call: Call) -> None:
        await call.send(response)

    return answer


def one_after_another(*behaviours: Behaviour | bytes) -> Behaviour:
    """Each call gets the next one, the last of them all that follow."""
    each = [answering(behaviour) if isinstance(behaviour, bytes) else behaviour for behaviour in behaviours]

    async def behave(call: Call) -> None:
        await each[min(call.number, len(each)) - 1](call)

    return behave


async def reset(call: Call) -> None:
    call.reset()


async def end(call: Call) -> None:
    call.end()


async def say_nothing(call: Call) -> None:
    """Keep the connection open without a byte, until its caller closes it."""
    await asyncio.Event().wait()


def whole(body: bytes | str, *headers: str, status: str = "200 OK") -> bytes:
    """A response with its length."""
    data = body.encode() if isinstance(body, str) else body
    return head(*headers, f"Content-Length: {len(data)}", status=status) + data


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def chunked(*pieces: bytes, ended: bool = True, headers: tuple[str, ...] = ("Content-Type: text/plain",)) -> bytes:
    """A response in chunks, with or without the one that ends it."""
    start = head(*headers, "Transfer-Encoding: chunked")
    return start + b"".join(map(chunk, pieces)) + (b"0\r\n\r\n" if ended else b"")
