"""Gives SAI what the user wrote, not what an IDE plugin wrapped around it.

Reads and replaces CHAT_REQUEST. Stands before the guard, which shall measure what SAI gets.
"""

from collections.abc import Awaitable
from operator import is_not

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from msgspec.structs import replace

from sai_proxy.conversation.chat import ChatMessage, Conversation
from sai_proxy.conversation.ide_prompt import BEGINNINGS, unwrap
from sai_proxy.keys import CHAT_REQUEST, RECORD


def ide_unwrap_middleware() -> Middleware:
    @web.middleware
    def ide_unwrap(request: web.Request, handler: Handler) -> Awaitable[web.StreamResponse]:
        chat = request[CHAT_REQUEST]
        if any(map(_may_be_wrapped, chat.conversations)):
            plain = [tuple(map(_plain, conversation)) for conversation in chat.conversations]
            if changed := sum(sum(map(is_not, *both)) for both in zip(plain, chat.conversations, strict=True)):
                request[CHAT_REQUEST] = replace(chat, conversations=tuple(plain))
                request[RECORD].unwrapped = changed
        return handler(request)

    return ide_unwrap


def _may_be_wrapped(conversation: Conversation) -> bool:
    for message in conversation:
        for part in message.parts:
            if part.startswith(BEGINNINGS):
                return True
    return False


def _plain(message: ChatMessage) -> ChatMessage:
    """The same object if there is nothing to unwrap."""
    texts = [unwrap(part) for part in message.parts]
    if not any(text is not None for text in texts):
        return message
    parts = tuple(part if text is None else text for part, text in zip(message.parts, texts, strict=True))
    return replace(message, parts=parts)
