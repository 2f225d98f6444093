"""The road `chat`: `POST /api/templates/{id}/chatexecute`, which says when a text was cut. Pure.

Source: observed behaviour of SAI's web page and of its callers: a session cookie, messages of users and assistants
alone, an answer `{"message", "maxTokensExpired", ...}`. That a key is not enough is an assumption: `@both`, `@key`.
"""

import re
from collections.abc import Collection, Mapping

import msgspec
from msgspec import Struct

from sai_proxy.conversation.abilities import Abilities
from sai_proxy.conversation.chat import ChatMessage, ChatRequest, Conversation, Route
from sai_proxy.conversation.events import Event
from sai_proxy.errors import UpstreamProtocolError
from sai_proxy.sai_api.documents import DocumentReader, Fields, first_text
from sai_proxy.sai_api.entry_options import read_options, with_options
from sai_proxy.sai_api.readers import AnswerReader

TEXT_FIELDS = ("message", "content", "text", "response", "answer", "result", "output")
"""Where callers look for the text, in this order; today's is the first."""

_CAN = Abilities(credentials=frozenset({"cookie"}))
_ID = re.compile(r"[A-Za-z0-9_-]+")


class Message(Struct):
    content: str
    role: str


class Payload(Struct):
    messages: list[Message]


class ChatRoad:
    accept = "application/json, text/plain, */*"
    form = "chat:ID[@key|cookie|both]"

    def route(self, target: str, override: str | None) -> Route | None:
        options = read_options(override, frozenset())
        if options is None or not _ID.fullmatch(target):
            return None
        return Route(target, override, "chat", with_options(_CAN, options))

    def url(self, base_url: str, route: Route) -> str:
        return f"{base_url}/api/templates/{route.target}/chatexecute"

    def payload(self, conversation: Conversation, chat: ChatRequest, now_ms: int) -> bytes:  # noqa: ARG002
        messages = [Message(message.text, message.role) for message in without_system(conversation)]
        return msgspec.json.encode(Payload(messages))

    def reader(self, headers: Mapping[str, str], custom_tools: Collection[str]) -> AnswerReader:  # noqa: ARG002
        return ChatReader(headers)


class ChatReader(DocumentReader):
    """One answer of `chatexecute`."""

    def read(self, document: Fields) -> list[Event]:
        text = first_text(document, TEXT_FIELDS)
        if text is None:
            raise UpstreamProtocolError(detail=f"no text in SAI's answer, but {', '.join(document)[:200]}")
        if bytes(document.get("maxTokensExpired", b"")) == b"true":
            self.finish_reason = "length"
        return [text] if text else []


def without_system(conversation: Conversation) -> Conversation:
    """System text before the first message of a user's that follows it, for roads that know no such role."""
    told: list[ChatMessage] = []
    waiting: tuple[str, ...] = ()
    for message in conversation:
        if message.role == "system":
            waiting += message.parts
        elif message.role == "user" and waiting:
            told.append(message.after(waiting))
            waiting = ()
        else:
            told.append(message)
    if waiting:
        told.append(ChatMessage("user", waiting))
    return tuple(told)
