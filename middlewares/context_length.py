"""Answers a conversation that is too long before SAI is asked.

Reads CHAT_REQUEST, and shortens it where its client has asked for that; raises ContextLengthExceeded; writes what
it measured into RECORD. Stands last, next to the handler, so that it measures what would be sent.
"""

import logging
from collections.abc import Awaitable

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from msgspec.structs import replace

from sai_proxy.conversation.shortening import length_of, without_oldest
from sai_proxy.conversation.tokens import CHARS_PER_TOKEN, estimate_tokens
from sai_proxy.errors import ContextLengthExceeded
from sai_proxy.errors.wording import context_facts
from sai_proxy.keys import CHAT_REQUEST, RECORD

logger = logging.getLogger(__name__)


def context_length_middleware(max_tokens: int) -> Middleware:
    """max_tokens: limit for the estimate over all messages of a conversation."""

    @web.middleware
    def context_length(request: web.Request, handler: Handler) -> Awaitable[web.StreamResponse]:
        chat, record = request[CHAT_REQUEST], request[RECORD]
        conversations, messages = chat.conversations, chat.messages
        record.messages = len(messages)
        roles: dict[str, int] = {}
        for message in messages:
            roles[message.role] = roles.get(message.role, 0) + 1
        record.roles = roles
        if logger.isEnabledFor(logging.DEBUG):
            structure = [{"role": m.role, "parts": len(m.parts), "chars": m.chars} for m in messages]
            logger.debug("structure of the messages", extra={"structure": structure})
        lengths = list(map(length_of, conversations))
        limit = max_tokens * CHARS_PER_TOKEN
        if chat.truncate and max(lengths) > limit:
            shorter = tuple(without_oldest(conversation, limit) for conversation in conversations)
            chat = request[CHAT_REQUEST] = replace(chat, conversations=shorter)
            record.truncated = len(messages) - len(chat.messages)
            lengths = list(map(length_of, shorter))
        record.chars = sum(lengths)
        tokens = estimate_tokens(max(lengths))
        if tokens > max_tokens:
            record.guarded = True
            raise ContextLengthExceeded(context_facts(tokens, max_tokens), param=chat.text_param)
        return handler(request)

    return context_length
