"""The connections to SAI, kept for reuse, and given out again only if nothing speaks against it.

An idle connection on which anything has arrived holds what nobody asked for: a second answer, or a
balancer's 408. Given out again, it would be the next user's answer. Such a connection is closed, and
so is one that its peer is about to close.
"""

import select
from functools import partial
from typing import Any

import aiohttp
from aiohttp import EMPTY_PAYLOAD
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest
from aiohttp.connector import Connection

MAX_BEFORE_ANSWER_BYTES = 300 * 1024
"""Heads, interim responses' included: SAI could send them without end."""

_HEAD_END = b"\r\n\r\n"


class Attempt:
    """What became known of the connection of one try.

    fresh: whether a connection may not be reused. reused: whether one was. protocol: of the connection.
    """

    def __init__(self, *, fresh: bool = False) -> None:
        self.fresh = fresh
        self.reused = False
        self.protocol: SaiConnection | None = None

    @property
    def stale(self) -> bool:
        """Whether a reused connection has ended before one byte came back: SAI had closed it, so that
        the request was lost on the way."""
        return self.reused and self.protocol is not None and not self.protocol.received


class SaiConnection(ResponseHandler):
    """aiohttp's client protocol, made strict: what comes behind an answer touches neither it nor the next one.

    received: whether any byte has arrived since the last request was sent. used: whether there was one before.
    """

    received = False
    used = False
    _poll: "select.poll | None" = None
    _before_answer = 0
    _body_bytes = 0
    _chunked = False
    _seen = b""
    _last = b""

    def set_response_params(self, **options: Any) -> None:
        self.received = self._chunked = False
        self._before_answer = self._body_bytes = 0
        self._seen = self._last = b""
        self._payload = None  # of the answer before
        super().set_response_params(**options)

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
        self._chunked = b"chunked" in seen[:end].lower()
        behind = len(seen) - end - len(_HEAD_END)
        super().data_received(data[: len(data) - behind])
        return data[len(data) - behind :]

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


class StrictConnector(aiohttp.TCPConnector):
    """A pool that never gives out an idle connection on which something has arrived, or which should
    close."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory = partial(SaiConnection, loop=self._loop)  # type: ignore[assignment]

    async def take(self, req: ClientRequest, attempt: Attempt, timeout: aiohttp.ClientTimeout) -> Connection:
        """A connection to the host of `req`, of which `attempt` is told. timeout: for a new one to be made."""
        while True:
            connection = await self.connect(req, [], timeout)
            protocol = connection.protocol
            assert isinstance(protocol, SaiConnection)
            attempt.protocol, attempt.reused, protocol.used = protocol, protocol.used, True
            if not attempt.reused or not (attempt.fresh or protocol.should_close or protocol.is_readable()):
                return connection
            connection.close()
