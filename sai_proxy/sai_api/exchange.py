"""One question to SAI and its answer, over one of the pool's connections.

aiohttp's client session would make a request, a body, a timer, a writer and a response of each question, with all
that any client may want. Here all are alike: a POST with a body that is there, no cookies, no redirects. So aiohttp's
public connector, its protocol and its parser are used directly, at a third of the cost.
"""

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any

import aiohttp
from aiohttp import EMPTY_PAYLOAD, StreamReader
from aiohttp.connector import Connection
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from sai_proxy.sai_api.pool import Attempt, Connections, SaiConnection
from sai_proxy.sai_api.upstream import Question
from sai_proxy.timeouts import Timeouts

_WRITTEN_AT_ONCE = 64 * 1024
"""A longer question goes out piece by piece, as SAI takes it: in one go each choice would have a copy waiting."""

_SWITCHING = 101
_LEAST_S = 0.001


class SilentError(TimeoutError):
    """Nothing came for as long as may pass between two pieces of an answer."""


class ExchangeTimeouts:
    """Of all exchanges with one SAI. idle_s: between two pieces of an answer."""

    def __init__(self, idle_s: float) -> None:
        self.idle_s = idle_s
        self.whole = Timeouts()
        self.idle = Timeouts()


class Exchange:
    """A question that was sent, and its answer, whose connection it has to itself until it is closed.

    protocol: of its connection. status, headers: of the answer, once `begin` has returned. deadline: of the loop's
    clock, for all of it.
    """

    __slots__ = (
        "_connection",
        "_connections",
        "_content",
        "_deadline",
        "_expired",
        "_idle",
        "_idle_until",
        "_loop",
        "_timeouts",
        "_waiting",
        "_writing",
        "headers",
        "protocol",
        "status",
    )

    status: int
    headers: Mapping[str, str]

    def __init__(
        self,
        connection: Connection,
        connections: Connections,
        loop: asyncio.AbstractEventLoop,
        timeouts: ExchangeTimeouts,
        deadline: float,
    ) -> None:
        protocol = connection.protocol
        assert isinstance(protocol, SaiConnection)
        self._connection: Connection | None = connection
        self._connections = connections
        self.protocol = protocol
        self._loop = loop
        self._timeouts = timeouts
        self._deadline: int | None = timeouts.whole.at(deadline, self._expire)
        self._idle: int | None = None
        self._idle_until = 0.0
        self._waiting = self._expired = False
        self._content: StreamReader = EMPTY_PAYLOAD
        self._writing: asyncio.Task[None] | None = None

    async def begin(self, head: bytes, question: Question) -> "Exchange":
        """Send the question, and return with the head of the answer. Raises ClientError, TimeoutError, in whose frames
        is nothing of what was asked, once it has been let go."""
        protocol = self.protocol
        protocol.expect_answer()
        try:
            self._send(head, question.payload)
            self._waiting = True
            while True:
                message, content = await protocol.read()
                if not 100 <= message.code < 200 or message.code == _SWITCHING:
                    break
        except HttpProcessingError as exc:
            self.close()
            raise aiohttp.ClientPayloadError("the answer is no HTTP") from exc
        except OSError as exc:
            self.close()
            if isinstance(exc, aiohttp.ClientError | TimeoutError):
                raise
            raise aiohttp.ClientOSError(*exc.args) from exc
        except BaseException:
            self.close()
            raise
        self._waiting = False
        self.status, self.headers, self._content = message.code, message.headers, content
        self._idle_until = self._loop.time() + self._timeouts.idle_s
        content.on_eof(self._end)
        return self

    def _send(self, head: bytes, payload: bytes) -> None:
        transport = self.protocol.transport
        if transport is None:
            raise aiohttp.ClientConnectionError("the connection has ended")
        if len(payload) <= _WRITTEN_AT_ONCE:
            transport.write(head + payload)
            return
        transport.write(head)
        self._writing = self._loop.create_task(self._write(transport, payload))

    async def _write(self, transport: asyncio.Transport, payload: bytes) -> None:
        view = memoryview(payload)
        try:
            for at in range(0, len(view), _WRITTEN_AT_ONCE):
                transport.write(view[at : at + _WRITTEN_AT_ONCE])
                await self.protocol._drain_helper()
        except (OSError, aiohttp.ClientError):
            return  # the protocol has told who reads

    @property
    def complete(self) -> bool:
        """Whether the end of the answer has come."""
        return self._content.is_eof()

    def at_hand(self, most: int) -> bytes | None:
        """The bytes that are here, at most so many; none at the end, None if they are yet to arrive. Raises
        ClientError, TimeoutError."""
        content = self._content
        data = content.read_nowait(most)
        if data:
            self._idle_until = self._loop.time() + self._timeouts.idle_s
            return data
        return data if content.is_eof() else None

    def all_at_hand(self, most: int) -> bytes | None:
        """The rest of the answer, if it is here to its end and not longer than that. Raises as `at_hand` does."""
        content = self._content
        if not content.is_eof() or content.total_bytes > most:
            return None
        return content.read_nowait(-1)

    async def receive(self, most: int) -> bytes:
        """The next bytes to arrive, at most so many; none at the end. Raises ClientError, TimeoutError."""
        self._wait()
        try:
            data = await self._content.read(most)
        finally:
            self._waiting = False
        self._idle_until = self._loop.time() + self._timeouts.idle_s
        return data

    def rest(self, most: int) -> bytes:
        """What is here of an answer that has broken off, of which aiohttp gives out nothing more."""
        return self._content._read_nowait(most)

    def close(self) -> None:
        """Let the connection go; break it, unless the answer has been read to its end."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._stop()
            _break(connection)

    def _end(self) -> None:
        """The answer is complete: the connection is for others now, unless the question is still being sent."""
        unsent = self._writing is not None and not self._writing.done()
        self._stop()
        connection, self._connection = self._connection, None
        if connection is not None:
            _break(connection) if unsent else self._connections.keep(connection)

    def _stop(self) -> None:
        if self._deadline is not None:
            self._timeouts.whole.cancel(self._deadline)
            self._deadline = None
        if self._idle is not None:
            self._timeouts.idle.cancel(self._idle)
            self._idle = None
        if self._writing is not None:
            self._writing.cancel()

    def _wait(self) -> None:
        """From now on somebody waits for more of the answer."""
        if self._expired:
            raise TimeoutError
        self._waiting = True
        if self._idle is None:
            self._idle = self._timeouts.idle.at(self._idle_until, self._look)

    def _look(self) -> None:
        """Nothing may have come for too long, if somebody waits for it."""
        self._idle = None
        if self._waiting and self._loop.time() >= self._idle_until:
            self._fail(SilentError())
        elif self._waiting:
            self._idle = self._timeouts.idle.at(self._idle_until, self._look)

    def _expire(self) -> None:
        self._deadline = None
        self._expired = True
        if self._waiting:
            self._fail(TimeoutError())

    def _fail(self, fault: TimeoutError) -> None:
        """Tell whoever waits."""
        if self._content is not EMPTY_PAYLOAD:
            self._content.set_exception(fault)
        self.protocol.set_exception(fault)


def _break(connection: Connection) -> None:
    """Close it, without waiting for SAI to take what it may never take: the rest of a long question."""
    transport = connection.transport
    connection.close()
    if transport is not None and transport.get_write_buffer_size():
        transport.abort()


class Exchanges:
    """Questions to one SAI. connect_timeout_s: for a connection to be made. idle_s: between two pieces of an answer."""

    def __init__(self, connector: aiohttp.TCPConnector, url: URL, *, connect_timeout_s: float, idle_s: float) -> None:
        self._connections = Connections(connector, url)
        self._loop = asyncio.get_running_loop()
        self._timeout = aiohttp.ClientTimeout(connect=connect_timeout_s)
        self._connect_timeout_s = connect_timeout_s
        self._timeouts = ExchangeTimeouts(idle_s)

    def ask(self, head: bytes, question: Question, attempt: Attempt, deadline: float) -> Coroutine[Any, Any, Exchange]:
        """Send a question, and return with the head of its answer; see `Exchange.begin`. deadline: of the loop's clock,
        for all of it."""
        connection = None if attempt.fresh else self._connections.reuse()
        if connection is None:
            return self._ask_anew(head, question, attempt, deadline)
        attempt.reused = True
        return self._exchange(connection, attempt, deadline).begin(head, question)

    async def _ask_anew(self, head: bytes, question: Question, attempt: Attempt, deadline: float) -> Exchange:
        connection = await self._connect(deadline)
        return await self._exchange(connection, attempt, deadline).begin(head, question)

    def _exchange(self, connection: Connection, attempt: Attempt, deadline: float) -> Exchange:
        exchange = Exchange(connection, self._connections, self._loop, self._timeouts, deadline)
        attempt.protocol = exchange.protocol
        return exchange

    async def _connect(self, deadline: float) -> Connection:
        timeout, left_s = self._timeout, deadline - self._loop.time()
        if left_s < self._connect_timeout_s:
            timeout = aiohttp.ClientTimeout(connect=max(left_s, _LEAST_S))
        try:
            return await self._connections.open(timeout)
        except TimeoutError as exc:
            if timeout is self._timeout:
                raise aiohttp.ConnectionTimeoutError("no connection in time") from exc
            raise
        except OSError as exc:
            if isinstance(exc, aiohttp.ClientError):
                raise
            raise aiohttp.ClientOSError(*exc.args) from exc

    async def close(self) -> None:
        await self._connections.close()
