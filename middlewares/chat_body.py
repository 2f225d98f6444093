"""Reads and decodes the body, once, for everything inside.

Writes CHAT_REQUEST, ANSWER and BODY_KEY; raises InvalidRequest and its like. Stands before
auth-resolution because a user's key may stand in the body. It is also where a request begins to
count as in flight, and its body as held in memory.
"""

import logging
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from sai_proxy import errors
from sai_proxy.conversation.chat import ChatRequest
from sai_proxy.http.admission import FREE_BYTES, BodyBudget
from sai_proxy.http.body_reading import read_body
from sai_proxy.keys import ANSWER, BODY_KEY, CHAT_REQUEST, LIFECYCLE, METRICS, RECORD
from sai_proxy.openai_api.endpoints import Endpoint

MAX_BYTES_A_CHAR = 4
"""In UTF-8, and in Python's strings."""

BYTES_A_PIECE = 64
"""What a message, a part or a stop string takes beside its text. Measured: 420 bytes of memory for a
message of one part, where the budget counts a tenth of what memory holds."""

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
        account = budget.account()
        body = b""
        try:
            try:
                with request.app[LIFECYCLE].running():
                    body = await read_body(request, account, request[RECORD], max_bytes=max_bytes, timeout_s=timeout_s)
                understand(request, body)
            except errors.ProxyError:
                request[ANSWER] = endpoint.likely_answer(body)
                raise
            if len(body) > FREE_BYTES:
                account.settle(size_of(request[CHAT_REQUEST], len(body)))
            body = b""
            return await handler(request)
        finally:
            account.close()
            in_flight.dec()

    return chat_body


def size_of(chat: ChatRequest, body_bytes: int) -> int:
    """How much of a body is still held once it has been understood: blanks and fields that SAI has no
    place for are gone with it, and many small pieces take more than they did."""
    messages = chat.messages
    chars = sum(message.chars for message in messages) + sum(map(len, (*chat.stops, *chat.echoes)))
    pieces = len(messages) + sum(len(message.parts) for message in messages) + len(chat.stops)
    return min(MAX_BYTES_A_CHAR * chars, body_bytes) + BYTES_A_PIECE * pieces
