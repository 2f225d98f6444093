"""An answer of SAI's, read piece by piece off its connection."""

import asyncio

import aiohttp

from sai_proxy import errors
from sai_proxy.conversation.chat import Usage
from sai_proxy.errors.wording import timeout_facts
from sai_proxy.sai_api import template
from sai_proxy.sai_api.inflate import BodyDecoder, body_decoder
from sai_proxy.sai_api.text import TextDecoder, text_decoder


class SaiReply:
    """An answer of `execute` whose status was good."""

    def __init__(self, response: aiohttp.ClientResponse, idle_timeout_s: float, request_timeout_s: float) -> None:
        self.model = response.headers.get("model")
        self.usage: Usage = template.read_usage(response.headers)
        self._response = response
        self._body: BodyDecoder = body_decoder(response.headers.get("Content-Encoding", ""))
        self._text: TextDecoder = text_decoder(response.headers.get("Content-Type", ""))
        self._idle_timeout_s = idle_timeout_s
        self._request_timeout_s = request_timeout_s
        self._loop = asyncio.get_running_loop()
        self._deadline = self._loop.time() + idle_timeout_s
        self.peeked = ""
        self._ended = False
        protocol = response.connection.protocol if response.connection else None
        if protocol is not None and protocol.closed is not None:
            protocol.closed.add_done_callback(self._on_connection_lost)

    async def read(self) -> str | None:
        if self.peeked:
            text, self.peeked = self.peeked, ""
            return text
        return await self._read_on()

    async def _read_on(self) -> str | None:
        while not self._ended:
            if self._body.pending:
                text = self._text.feed(self._body.feed(b""))
            elif data := await self._receive():
                text = self._text.feed(self._body.feed(data))
            else:
                self._ended = True
                self._body.end()
                text = self._text.end()
            if text:
                return text
        return None

    async def peek(self, chars: int) -> str:
        """At least `chars` characters of the beginning, or all there is; `read` starts with them."""
        while len(self.peeked) < chars and (text := await self._read_on()) is not None:
            self.peeked += text
        return self.peeked

    def close(self) -> None:
        self._response.close()

    def _on_connection_lost(self, closed: asyncio.Future[None]) -> None:
        """aiohttp closes a connection on a malformed chunk without telling who reads from it."""
        if not closed.cancelled():
            closed.exception()  # whoever reads gets one of its own; asyncio would log this as not looked at
        content = self._response.content
        if not content.is_eof() and content.exception() is None:
            content.set_exception(aiohttp.ClientPayloadError("connection lost in mid-answer"))

    async def _receive(self) -> bytes:
        """The bytes that have arrived, or the next to arrive; none at the end."""
        content = self._response.content
        try:
            data = content.read_nowait()
            if not data:
                async with asyncio.timeout_at(self._deadline):
                    data = await content.readany()
        except TimeoutError as exc:
            idle = self._loop.time() >= self._deadline
            limit = self._idle_timeout_s if idle else self._request_timeout_s
            detail = f"SAI was silent for {limit:g} s in mid-answer" if idle else "the answer took too long"
            raise errors.UpstreamTimeout(timeout_facts(limit), detail=detail) from exc
        except aiohttp.ClientError as exc:
            raise errors.UpstreamProtocolError(
                detail=f"SAI's answer ended too early, or was malformed: {type(exc).__name__}"
            ) from exc
        self._deadline = self._loop.time() + self._idle_timeout_s
        return data
