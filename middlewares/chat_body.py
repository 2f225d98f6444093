"""Reads and decodes the body, once, for everything inside.

Writes CHAT_REQUEST, ANSWER and BODY_KEY; raises InvalidRequest and its like. Stands before
auth-resolution because a user's key may stand in the body.
"""

import asyncio
import logging
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from sai_proxy import errors
from sai_proxy.endpoints import Endpoint
from sai_proxy.keys import ANSWER, BODY_KEY, CHAT_REQUEST, LIFECYCLE, RECORD

logger = logging.getLogger(__name__)


def chat_body_middleware(endpoint: Endpoint[Any], *, max_bytes: int, timeout_s: float) -> Middleware:
    """max_bytes: longest body. timeout_s: for the whole of it to arrive; aiohttp itself sets none."""

    @web.middleware
    async def chat_body(request: web.Request, handler: Handler) -> web.StreamResponse:
        body = b""
        try:
            with request.app[LIFECYCLE].running():
                body = await _read(request, max_bytes, timeout_s)
            parsed = endpoint.parse(body)
        except errors.ProxyError:
            request[ANSWER] = endpoint.likely_answer(body)
            raise
        chat = request[CHAT_REQUEST] = parsed.chat_request
        request[ANSWER] = parsed.answer
        request[BODY_KEY] = parsed.user_key
        record = request[RECORD]
        record.model, record.stream = chat.model, chat.stream
        if chat.ignored:
            logger.debug("ignored parameters", extra={"parameters": chat.ignored})
        return await handler(request)

    return chat_body


async def _read(request: web.Request, max_bytes: int, timeout_s: float) -> bytes:
    encoding = request.headers.get("Content-Encoding", "identity")
    if encoding.strip().lower() not in ("", "identity"):
        raise errors.UnsupportedMediaType({"encoding": encoding[:50]})
    if (request.content_length or 0) > max_bytes:
        raise errors.BodyTooLarge({"limit": max_bytes})
    try:
        if request.content.is_eof():  # all of it is here: a timer would cost more than the reading
            return await request.read()
        async with asyncio.timeout(timeout_s):
            return await request.read()
    except TimeoutError as exc:
        raise errors.BodyTimeout({"seconds": f"{timeout_s:g}"}) from exc
    except web.HTTPRequestEntityTooLarge as exc:
        raise errors.BodyTooLarge({"limit": max_bytes}) from exc
    except web.RequestPayloadError as exc:
        raise errors.MalformedHttp(detail=type(exc).__name__) from exc
