"""The connections to SAI, kept for reuse, and given out again only if nothing speaks against it.

An idle connection on which anything has arrived holds what nobody asked for: a second answer, or a
balancer's 408. Given out again, it would be the next user's answer. Such a connection is closed, and
so is one that its peer is about to close.
"""

import select
from contextvars import ContextVar
from functools import partial
from typing import Any
from weakref import WeakSet

import aiohttp
from aiohttp import EMPTY_PAYLOAD
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest
from aiohttp.connector import Connection
from aiohttp.tracing import Trace

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


current_attempt: ContextVar[Attempt | None] = ContextVar("current_attempt", default=None)
"""Written by the client around each try, since aiohttp's calls carry nothing of ours."""


class SaiConnection(ResponseHandler):
    """aiohttp's client protocol, made strict.

    received: whether any byte has arrived since the last request was sent.
    """

    received = False
    _before_answer = 0

    def set_response_params(self, **options: Any) -> None:
        self.received = False
        self._before_answer = 0
        super().set_response_params(**options)

    def data_received(self, data: bytes) -> None:
        if self._payload is None or self._payload is EMPTY_PAYLOAD:
            self._before_answer += len(data)
            if self._before_answer > MAX_BEFORE_ANSWER_BYTES:
                self.set_exception(aiohttp.ClientPayloadError("too much stands before the answer"))
                if self.transport is not None:
                    self.transport.abort()
                return
        if not self.received:
            self.received = True
            end = data.find(_HEAD_END) + len(_HEAD_END)
            if len(_HEAD_END) <= end < len(data):
                # Apart, since aiohttp loses an answer that has bytes too many in the packet of its head.
                super().data_received(data[:end])
                data = data[end:]
        super().data_received(data)

    def set_exception(self, exc: BaseException, *cause: Any) -> None:
        """Also tells who reads from the answer, which aiohttp does not do for a malformed chunk."""
        super().set_exception(exc, *cause)
        payload = self._payload
        if payload is not None and not payload.is_eof() and payload.exception() is None:
            payload.set_exception(aiohttp.ClientPayloadError("connection lost in mid-answer"))


class StrictConnector(aiohttp.TCPConnector):
    """A pool that never gives out an idle connection on which something has arrived, or which should
    close."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory = partial(SaiConnection, loop=self._loop)  # type: ignore[assignment]
        self._used: WeakSet[ResponseHandler] = WeakSet()

    async def connect(self, req: ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout) -> Connection:
        attempt = current_attempt.get() or Attempt()
        while True:
            connection = await super().connect(req, traces, timeout)
            protocol = connection.protocol
            assert isinstance(protocol, SaiConnection)
            attempt.protocol = protocol
            attempt.reused = protocol in self._used
            if not attempt.reused:
                self._used.add(protocol)
                return connection
            if not (attempt.fresh or protocol.should_close or _readable(connection)):
                return connection
            connection.close()


def _readable(connection: Connection) -> bool:
    """Whether something, be it the connection's end, waits in the kernel that the loop has not read yet."""
    transport = connection.transport
    sock = transport.get_extra_info("socket") if transport is not None else None
    if sock is None:
        return True
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    return bool(poll.poll(0))
