"""Reads and decodes the body, once, for everything inside.

Writes CHAT_REQUEST, ANSWER and BODY_KEY; raises InvalidRequest and its like. Stands before
auth-resolution because a user's key may stand in the body. It is also where a request begins to
count as in flight, and its body as held in memory.
"""

import asyncio
import logging
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from sai_proxy import errors
from sai_proxy.body_budget import BodyBudget
from sai_proxy.endpoints import Endpoint
from sai_proxy.keys import ANSWER, BODY_KEY, CHAT_REQUEST, LIFECYCLE, METRICS, RECORD

logger = logging.getLogger(__name__)


def chat_body_middleware(
    endpoint: Endpoint[Any], budget: BodyBudget, *, max_bytes: int, timeout_s: float
) -> Middleware:
    """budget: of all bodies in memory. max_bytes: longest body. timeout_s: for the whole of it to
    arrive; aiohttp itself sets none."""

    def understand(request: web.Request, body: bytes) -> None:
        parsed = endpoint.parse(body)
        chat = request[CHAT_REQUEST] = parsed.chat_request
        request[ANSWER] = parsed.answer
        request[BODY_KEY] = parsed.user_key
        record = request[RECORD]
        record.model, record.stream = chat.model, chat.stream
        if chat.ignored:
            logger.debug("ignored parameters", extra={"parameters": chat.ignored})

    @web.middleware
    async def chat_body(request: web.Request, handler: Handler) -> web.StreamResponse:
        in_flight = request.app[METRICS].requests_in_flight
        in_flight.inc()
        reading = BodyReading(request, budget, max_bytes)
        body = b""
        try:
            try:
                with request.app[LIFECYCLE].running():
                    body = await reading.read(timeout_s)
                understand(request, body)
            except errors.ProxyError:
                request[ANSWER] = endpoint.likely_answer(body)
                raise
            body = b""  # what is asked has been made of it
            return await handler(request)
        finally:
            reading.give_back()
            in_flight.dec()

    return chat_body


class BodyReading:
    """The body of one request, on its way into memory."""

    def __init__(self, request: web.Request, budget: BodyBudget, max_bytes: int) -> None:
        self._request = request
        self._budget = budget
        self._max_bytes = max_bytes
        self._held = 0

    async def read(self, timeout_s: float) -> bytes:
        """All of it. Raises ProxyError."""
        request = self._request
        encoding = request.headers.get("Content-Encoding", "identity")
        if encoding.strip().lower() not in ("", "identity"):
            raise errors.UnsupportedMediaType({"encoding": encoding[:50]})
        if (request.content_length or 0) > self._max_bytes:
            raise errors.BodyTooLarge({"limit": self._max_bytes})
        try:
            if request.content.is_eof():  # all of it is here: a timer would cost more than the reading
                return self._counted(request.content.read_nowait())
            async with asyncio.timeout(timeout_s):
                return await self._read_on()
        except TimeoutError as exc:
            raise errors.BodyTimeout({"seconds": f"{timeout_s:g}"}) from exc
        except web.RequestPayloadError as exc:
            raise errors.MalformedHttp(detail=type(exc).__name__) from exc

    def give_back(self) -> None:
        """The body is no longer held."""
        self._budget.give_back(self._held)
        self._held = 0

    async def _read_on(self) -> bytes:
        now = asyncio.get_running_loop().time
        started = now()
        pieces = []
        while piece := await self._request.content.readany():
            pieces.append(self._counted(piece))
        self._request[RECORD].upload_s = now() - started
        return b"".join(pieces)

    def _counted(self, piece: bytes) -> bytes:
        if self._held + len(piece) > self._max_bytes:
            raise errors.BodyTooLarge({"limit": self._max_bytes})
        self._budget.take(len(piece), self._held)
        self._held += len(piece)
        return piece
