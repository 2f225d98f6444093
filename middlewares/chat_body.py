"""Decodes the body, once, for everything inside, and lets its bytes go.

Reads BODY; writes CHAT_REQUEST and ANSWER; raises InvalidRequest and its like. Stands after
auth-resolution: nothing is decoded for somebody unknown.
"""

import asyncio
import logging

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from sai_proxy.keys import ANSWER, BODY, CHAT_REQUEST, HOLDING, RECORD
from sai_proxy.openai_api.endpoints import Endpoint

logger = logging.getLogger(__name__)

SMALL_BYTES = 16 * 1024
"""A longer body takes its turn."""


def chat_body_middleware(endpoint: Endpoint) -> Middleware:
    turns = asyncio.Lock()

    def read(request: web.Request) -> None:
        """Nothing of it stays in a frame that waits for the answer."""
        parsed = endpoint.parse(request[BODY])
        request[BODY] = b""  # its account stays until the question has taken its place
        chat = request[CHAT_REQUEST] = parsed.chat_request
        request[ANSWER] = parsed.answer
        record = request[RECORD]
        record.model, record.stream = chat.model, chat.stream
        request[HOLDING].weigh(chat.choices)
        if chat.ignored:
            logger.debug("ignored parameters", extra={"parameters": chat.ignored})

    @web.middleware
    async def chat_body(request: web.Request, handler: Handler) -> web.StreamResponse:
        if len(request[BODY]) <= SMALL_BYTES:
            read(request)
            return await handler(request)
        async with turns:  # long ones go through the layers one at a time, and the loop between them
            await asyncio.sleep(0)
            read(request)
        return await handler(request)

    return chat_body
