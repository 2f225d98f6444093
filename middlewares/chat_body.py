"""Decodes the body, once, for everything inside, and lets its bytes go.

Reads BODY and RECALLED; writes CHAT_REQUEST and ANSWER; raises InvalidRequest and its like. Stands after
auth-resolution: nothing is decoded for somebody unknown.
"""

import asyncio
import logging
from collections.abc import Awaitable

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from sai_proxy.keys import ANSWER, BODY, CHAT_REQUEST, HOLDING, RECALLED, RECORD
from sai_proxy.openai_api.endpoints import Endpoint
from sai_proxy.openai_api.kept_responses import NOTHING

logger = logging.getLogger(__name__)

SMALL_BYTES = 16 * 1024
"""A longer body takes its turn."""


def chat_body_middleware(endpoint: Endpoint) -> Middleware:
    turns = asyncio.Lock()

    def read(request: web.Request) -> None:
        """Nothing of it stays in a frame that waits."""
        if endpoint.keeps:
            parsed = endpoint.parse(request[BODY], request[RECALLED])
            request[RECALLED] = NOTHING
        else:
            parsed = endpoint.parse(request[BODY])
        request[BODY] = b""  # its account stays until the question has taken its place
        chat = request[CHAT_REQUEST] = parsed.chat_request
        request[ANSWER] = parsed.answer
        record = request[RECORD]
        record.model, record.road, record.stream = chat.model, chat.route.road, chat.stream
        record.left_out_tools = list(chat.left_out) or None
        if chat.choices > 1:
            request[HOLDING].weigh(chat.choices)
        if chat.ignored:
            logger.debug("ignored parameters", extra={"parameters": chat.ignored})

    @web.middleware
    def chat_body(request: web.Request, handler: Handler) -> Awaitable[web.StreamResponse]:
        if len(request[BODY]) > SMALL_BYTES:
            return in_turn(request, handler)
        read(request)
        return handler(request)

    async def in_turn(request: web.Request, handler: Handler) -> web.StreamResponse:
        async with turns:  # long ones go through the layers one at a time, and the loop between them
            await asyncio.sleep(0)
            read(request)
        return await handler(request)

    return chat_body
