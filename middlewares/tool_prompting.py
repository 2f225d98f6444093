"""Puts what concerns tools and JSON into the conversation as text, as far as the road cannot do it by itself.

Reads and replaces CHAT_REQUEST. Stands before the guard, which shall measure what SAI gets; the relay reads
the answer back.
"""

from collections.abc import Awaitable
from operator import is_not

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from msgspec.structs import replace

from sai_proxy.keys import CHAT_REQUEST
from sai_proxy.tools.asking import as_text


def tool_prompting_middleware() -> Middleware:
    @web.middleware
    def tool_prompting(request: web.Request, handler: Handler) -> Awaitable[web.StreamResponse]:
        chat = request[CHAT_REQUEST]
        toolset, output, by = chat.toolset, chat.output, chat.route.can.tools
        told = [as_text(conversation, toolset, output, by) for conversation in chat.conversations]
        if any(map(is_not, told, chat.conversations)):
            request[CHAT_REQUEST] = replace(chat, conversations=tuple(told))
        return handler(request)

    return tool_prompting
