"""The connections to SAI, kept for reuse, and given out again only if nothing speaks against it.

An idle connection on which anything has arrived holds what nobody asked for: a second answer, or a
balancer's 408. Given out again, it would be the next user's answer. Such a connection is closed, and
so is one that its peer is about to close.
"""

import asyncio
import re
import select
from functools import cached_property, partial
from typing import Any

import aiohttp
from aiohttp import EMPTY_PAYLOAD
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest, ConnectionKey
from aiohttp.connector import Connection
from yarl import URL

from sai_proxy.sai_api.sockets import ResumesIfPaused

MAX_BEFORE_ANSWER_BYTES = 300 * 1024
"""Heads, interim responses' included: SAI could send them without end."""

_HEAD_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"HTTP/1\.1 200 [^\r]*\r\n(?:[^\r]*\r\n)*?content-length: *([0-9]{1,9})\r\n", re.IGNORECASE)

MAX_HEADER_BYTES = 48 * 1024
MAX_HEADERS = 192
"""Of SAI's answers: as generous as this server is with its clients, for the cookies that it may set."""

_READ_AHEAD = 16 * 1024
"""Of an answer that its client does not read; twice as much stops the reading from SAI."""

CLOSE_TIMEOUT_S = 1.0
"""For idle connections to take their leave, which those with TLS do."""

KEEPALIVE_S = 15.0
"""How long an idle connection is kept: servers and balancers keep theirs for longer."""

REST_S = 0.02
"""How long a connection should have been idle before it is used again: what comes late and unasked is seen by then."""


class Attempt:
    """What became known of the connection of one try.

    fresh: whether a connection may not be reused. reused: whether one was. protocol: of the connection.
    """

    __slots__ = ("fresh", "protocol", "reused")

    def __init__(self, *, fresh: bool = False) -> None:
        self.fresh = fresh
        self.reused = False
        self.protocol: SaiConnection | None = None

    @property
    def stale(self) -> bool:
        """Whether a reused connection has ended before one byte came back: SAI had closed it, so that
        the request was lost on the way."""
        return self.reused and self.protocol is not None and not self.protocol.received


class SaiConnection(ResumesIfPaused, ResponseHandler):
    """aiohttp's client protocol, made strict: what comes behind an answer touches neither it nor the next one.

    received: whether any byte has arrived since the last request was sent.
    """

    received = False
    _poll: "select.poll | None" = None
    _before_answer = 0
    _body_bytes = 0
    _chunked = False
    _seen = b""
    _last = b""

    def expect_answer(self) -> None:
        """To what is sent next."""
        self.received = self._chunked = False
        self._before_answer = self._body_bytes = 0
        self._seen = self._last = b""
        self._payload = None  # of the answer before
        self.has_paused = False
        self.set_response_params(
            read_until_eof=True,
            auto_decompress=False,  # see `inflate`
            read_bufsize=_READ_AHEAD,
            max_line_size=MAX_HEADER_BYTES,
            max_field_size=MAX_HEADER_BYTES,
            max_headers=MAX_HEADERS,
        )

    def data_received(self, data: bytes) -> None:
        if not data:  # the reader goes on where it had paused the parser
            super().data_received(data)
            self._check_end()
            return
        self.received = True
        while data and not self._answers:
            data = self._receive_head(data)
        payload = self._payload
        if not data or payload is None:
            return
        if payload.is_eof():
            self.force_close()  # nobody has asked for it
        self._body_bytes += len(data)
        self._last = (self._last + data)[-len(_HEAD_END) :]
        super().data_received(data)
        self._check_end()

    def _receive_head(self, data: bytes) -> bytes:
        """Of an answer, or of an interim one; what stands behind it is returned. Heads go apart, since aiohttp loses
        an answer that has bytes too many behind it."""
        self._before_answer += len(data)
        if self._before_answer > MAX_BEFORE_ANSWER_BYTES:
            self._refuse()
            return b""
        seen = self._seen + data
        end = seen.find(_HEAD_END)
        if end < 0:
            self._seen = seen
            super().data_received(data)
            return b""
        self._seen = b""
        behind = len(seen) - end - len(_HEAD_END)
        self._chunked = b"chunked" in seen[:end].lower()
        length = _LENGTH.match(seen, 0, end + len(_HEAD_END))
        if length is not None and int(length[1]) == behind <= _READ_AHEAD and not self._chunked:
            self._receive_whole(data, behind)
            return b""
        super().data_received(data[: len(data) - behind])
        return data[len(data) - behind :]

    def _receive_whole(self, data: bytes, length: int) -> None:
        """An answer that has come in one piece, with nothing behind it. length: of its body, by its head."""
        self._body_bytes = length
        super().data_received(data)
        payload = self._payload
        if payload is None or not payload.is_eof() or payload.total_bytes != length:
            self.force_close()  # aiohttp has read it in another way

    @property
    def _answers(self) -> bool:
        """Whether the head of the answer is there, interim ones do not count."""
        return self._payload is not None and self._payload is not EMPTY_PAYLOAD

    def _check_end(self) -> None:
        """Something came behind the answer, if only the half of a head, of which aiohttp's parser says nothing."""
        payload = self._payload
        if payload is None or payload is EMPTY_PAYLOAD or not payload.is_eof():
            return
        if not (self._last == _HEAD_END if self._chunked else self._body_bytes == payload.total_bytes):
            self.force_close()

    def _refuse(self) -> None:
        self.set_exception(aiohttp.ClientPayloadError("too much stands before the answer"))
        if self.transport is not None:
            self.transport.abort()

    def is_readable(self) -> bool:
        """Whether something, be it the connection's end, waits in the kernel that the loop has not read yet."""
        if self._poll is None:
            sock = self.transport.get_extra_info("socket") if self.transport is not None else None
            if sock is None:
                return True
            self._poll = select.poll()
            self._poll.register(sock.fileno(), select.POLLIN)
        return bool(self._poll.poll(0))

    def connection_lost(self, exc: BaseException | None) -> None:
        if exc is not None:  # for aiohttp a reset, too, ends an answer that has no length
            self._tell_reader("connection reset in mid-answer")
        super().connection_lost(exc)

    def set_exception(self, exc: BaseException, *cause: Any) -> None:
        """Also tells who reads from the answer, which aiohttp does not do for a malformed chunk."""
        super().set_exception(exc, *cause)
        self._tell_reader("connection lost in mid-answer")

    def _tell_reader(self, words: str) -> None:
        payload = self._payload
        if payload is not None and not payload.is_eof() and payload.exception() is None:
            payload.set_exception(aiohttp.ClientPayloadError(words))


class Connections:
    """The connections to one SAI. Those that are idle are given out again, unless something has arrived on them or they
    should close: of those that have rested the last used first, so that what is not needed gets old; if none has, the
    one that has been idle for the longest time.

    connector: aiohttp's, which makes them; its own pool stays empty. url: SAI's.
    """

    def __init__(self, connector: aiohttp.TCPConnector, url: URL) -> None:
        self._loop = asyncio.get_running_loop()
        connector._factory = partial(SaiConnection, loop=self._loop)  # type: ignore[assignment]
        self._connector = connector
        self._where = _Where("POST", url, loop=self._loop)
        self._idle: list[tuple[Connection, float]] = []  # and since when, the last at the end
        self._sweeping: asyncio.TimerHandle | None = None
        self._closed = False

    def reuse(self) -> Connection | None:
        """An idle one."""
        while self._idle:
            connection, _ = self._idle.pop(self._best())
            protocol = connection.protocol
            assert isinstance(protocol, SaiConnection)
            if protocol.is_connected() and not (protocol.should_close or protocol.is_readable()):
                return connection
            connection.close()
        return None

    def _best(self) -> int:
        """The place of the one to use."""
        idle, rested = self._idle, self._loop.time() - REST_S
        if idle[0][1] > rested:
            return 0
        at = len(idle) - 1
        while idle[at][1] > rested:
            at -= 1
        return at

    async def open(self, timeout: aiohttp.ClientTimeout) -> Connection:
        """A new one."""
        return await self._connector.connect(self._where, [], timeout)

    def keep(self, connection: Connection) -> None:
        """It is idle now: its answer has been read to the end."""
        if self._closed or connection.protocol is None or connection.protocol.should_close:
            connection.close()
            return
        self._idle.append((connection, self._loop.time()))
        if self._sweeping is None:
            self._sweeping = self._loop.call_later(KEEPALIVE_S, self._sweep)

    def _sweep(self) -> None:
        """Close those that have been idle for too long."""
        self._sweeping = None
        since = self._loop.time() - KEEPALIVE_S
        old = 0
        while old < len(self._idle) and self._idle[old][1] <= since:
            self._idle[old][0].close()
            old += 1
        del self._idle[:old]
        if self._idle:
            self._sweeping = self._loop.call_at(self._idle[0][1] + KEEPALIVE_S, self._sweep)

    async def close(self) -> None:
        """No more are made, and those that are idle are closed."""
        self._closed = True
        if self._sweeping is not None:
            self._sweeping.cancel()
        closed = [protocol.closed for connection, _ in self._idle if (protocol := connection.protocol) is not None]
        for connection, _ in self._idle:
            connection.close()
        self._idle.clear()
        await self._connector.close()
        if waiting := [future for future in closed if future is not None]:
            await asyncio.wait(waiting, timeout=CLOSE_TIMEOUT_S)


class _Where(ClientRequest):
    """What the connector wants to know: a host, a port, and whether with TLS."""

    @cached_property
    def connection_key(self) -> ConnectionKey:
        return super().connection_key
