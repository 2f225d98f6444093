"""An answer of SAI's, read piece by piece off its connection."""

import asyncio

import aiohttp

from sai_proxy import errors
from sai_proxy.conversation.chat import Usage
from sai_proxy.errors.wording import timeout_facts
from sai_proxy.sai_api import template
from sai_proxy.sai_api.inflate import BodyDecoder, body_decoder
from sai_proxy.sai_api.text import TextDecoder, text_decoder

PIECE_BYTES = 32 * 1024
"""Read at once, however much has arrived: what a client does not take yet waits where SAI is slowed down by it."""


class SaiReply:
    """An answer of `execute`, whose connection it owns until it is closed.

    max_bytes: of the whole answer, inflated. Raises UpstreamProtocolError for a coding of its body that
    was not asked for.
    """

    def __init__(
        self, response: aiohttp.ClientResponse, *, idle_timeout_s: float, request_timeout_s: float, max_bytes: int
    ) -> None:
        self.model = template.read_model(response.headers)
        self.usage: Usage = template.read_usage(response.headers)
        self._response = response
        self._body: BodyDecoder = body_decoder(response.headers.get("Content-Encoding", ""))
        self._text: TextDecoder = text_decoder(response.headers.get("Content-Type", ""))
        self._idle_timeout_s = idle_timeout_s
        self._request_timeout_s = request_timeout_s
        self._max_bytes = self._bytes_left = max_bytes
        self._loop = asyncio.get_running_loop()
        self._deadline = self._loop.time() + idle_timeout_s
        self.peeked = ""
        self._ended = False

    async def read(self) -> str | None:
        if self.peeked:
            text, self.peeked = self.peeked, ""
            return text
        return await self._read_on()

    async def _read_on(self) -> str | None:
        while not self._ended:
            if self._body.pending:
                await asyncio.sleep(0)  # others have their turn between the pieces of what inflates to much
                text = self._decode(b"")
            elif data := await self._receive():
                text = self._decode(data)
            else:
                self._ended = True
                self._body.end()
                text = self._text.end()
            if text:
                return text
        return None

    def _decode(self, data: bytes) -> str:
        inflated = self._body.feed(data)
        self._bytes_left -= len(inflated)
        if self._bytes_left < 0:
            raise errors.UpstreamAnswerTooLong({"limit": self._max_bytes})
        return self._text.feed(inflated)

    async def peek(self, chars: int) -> str:
        """At least `chars` characters of the beginning, or all there is; `read` starts with them."""
        while len(self.peeked) < chars and (text := await self._read_on()) is not None:
            self.peeked += text
        return self.peeked

    def close(self) -> None:
        self._response.close()

    async def _receive(self) -> bytes:
        """The bytes that have arrived, or the next to arrive; none at the end."""
        content = self._response.content
        try:
            data = content.read_nowait(PIECE_BYTES)
            if not data:
                async with asyncio.timeout_at(self._deadline):
                    data = await content.read(PIECE_BYTES)
        except TimeoutError as exc:
            idle = self._loop.time() >= self._deadline
            limit = self._idle_timeout_s if idle else self._request_timeout_s
            detail = f"SAI was silent for {limit:g} s in mid-answer" if idle else "the answer took too long"
            raise errors.UpstreamTimeout(timeout_facts(limit), detail=detail) from exc
        except aiohttp.ClientError as exc:
            if arrived := content._read_nowait(PIECE_BYTES):  # which aiohttp does not give out any more
                return arrived
            raise errors.UpstreamProtocolError(
                detail=f"SAI's answer ended too early, or was malformed: {type(exc).__name__}"
            ) from exc
        self._deadline = self._loop.time() + self._idle_timeout_s
        return data
