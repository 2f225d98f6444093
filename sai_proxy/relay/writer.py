"""The way to one client: the only place where an answer's bytes go out, and where it ends.

A client that stops reading does not hold it for ever: the connection has a deadline for being written to
(`server.py`), and an answer counts as ended only when nothing of it is left in this process.
"""

import asyncio
from collections.abc import Mapping

from aiohttp import HttpVersion11, web

from sai_proxy.http.half_close import on_half_close


class _Response(web.StreamResponse):
    """Whose head goes out with the first bytes of its body: each of the two would be a system call. (Where aiohttp
    does not know this name any more, they are.)"""

    _send_headers_immediately = False


class AnswerWriter:
    """One answer, whole or as a stream. ended: whether a stream's end has been written, if not taken."""

    __slots__ = ("_request", "ended", "response")

    def __init__(self, request: web.Request) -> None:
        self.response: web.StreamResponse
        self._request = request
        self.ended = False

    @property
    def begun(self) -> bool:
        """Whether bytes went out, after which no other answer can follow. That aiohttp calls a response
        prepared says only that it has made a head for it."""
        return self._request.writer.output_size > 0

    async def write_whole(self, body: bytes, headers: Mapping[str, str]) -> None:
        """All of an answer. Returns when the client, or its kernel, has it."""
        self.response = response = _Response(headers={**headers, "Content-Length": str(len(body))})
        await response.prepare(self._request)
        await response.write_eof(body)
        if self._unsent:
            await self._flush()

    async def write_all(self, events: bytes, headers: Mapping[str, str]) -> None:
        """All of a stream that is complete. Returns when the client, or its kernel, has it."""
        await self._prepare_stream(headers)
        self.ended = True
        await self.response.write_eof(events)
        if self._unsent:
            await self._flush()

    async def start(self, first: bytes, headers: Mapping[str, str], *, heartbeat: bytes) -> None:
        """The head of a stream and its first bytes. heartbeat: what may be written between any two pieces."""
        await self._prepare_stream(headers)
        await self.response.write(first)

        def probe() -> None:
            asyncio.ensure_future(self.write(heartbeat)).add_done_callback(_look_away)

        on_half_close(self._request, probe)

    async def _prepare_stream(self, headers: Mapping[str, str]) -> None:
        self.response = _Response(headers=headers)
        if self._request.version < HttpVersion11:
            self.response.force_close()  # without chunks only the connection's end is the stream's
        await self.response.prepare(self._request)

    async def write(self, data: bytes) -> None:
        """A piece of a stream. Waits while the client does not read."""
        await self.response.write(data)

    async def end(self, last: bytes) -> None:
        """The last piece of a stream, and its end. Returns when the client, or its kernel, has it."""
        on_half_close(self._request, None)
        self.ended = True
        await self.response.write_eof(last)
        if self._unsent:
            await self._flush()

    @property
    def _unsent(self) -> bool:
        """Whether the kernel has not taken all of it."""
        transport = self._request.transport
        return transport is not None and transport.get_write_buffer_size() > 0

    async def _flush(self) -> None:
        transport = self._request.transport
        assert transport is not None
        try:
            transport.set_write_buffer_limits(high=0)  # pauses writing until all is out
            await self._request.writer.drain()
            transport.set_write_buffer_limits()
        except RuntimeError as exc:  # uvloop's word for a connection that has gone meanwhile
            raise ConnectionResetError("the client has left") from exc


def _look_away(written: "asyncio.Future[None]") -> None:
    """Whether a probe could be written is seen by the connection, which ends if not."""
    if not written.cancelled():
        written.exception()
