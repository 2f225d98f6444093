"""The road `template`: `POST /api/templates/{id}/execute`, which answers with bare text when it is done. Pure.

Source: observed behaviour of SAI and of its callers; nothing of it is documented by SAI.
"""

import re
from collections.abc import Collection, Mapping
from types import MappingProxyType
from urllib.parse import quote

import msgspec
from msgspec import Struct

from sai_proxy.conversation.abilities import Abilities
from sai_proxy.conversation.chat import ChatRequest, Conversation, Route
from sai_proxy.sai_api.readers import AnswerReader, TextReader

ACCEPT = "application/json, text/plain, */*"
"""With `*/*` in it SAI answers with bare text rather than with a quoted JSON string."""

_ID = re.compile(r"[A-Za-z0-9_-]+")


def execute_url(base_url: str, route: Route) -> str:
    """The URL that runs a template. The override, the model that it shall run instead of its own, is URL-encoded."""
    url = f"{base_url}/api/templates/{route.target}/execute"
    return url if route.override is None else f"{url}?modelOverride={quote(route.override, safe='')}"


class HistoryMessage(Struct):
    content: str
    role: str
    id: int


class Payload(Struct, rename="camel", omit_defaults=True):
    """The body of a call."""

    inputs: dict[str, str | None]
    chat_messages: list[HistoryMessage] = []


NO_INPUTS: Mapping[str, str | None] = MappingProxyType({})


def more_inputs(
    names: Collection[str], messages: Conversation, tools_json: str | None, api: str
) -> Mapping[str, str | None]:
    """What the predecessor's second version fills beside `system` and `user`, of those that the template has.
    tools_json: the tools as the client sent them. api: which of OpenAI's it came by."""
    answered = messages[-1].answers
    kind = (
        "message" if answered is None else f"{'custom_tool' if answered.kind == 'custom' else 'function'}_call_output"
    )
    filled = {"tools": tools_json, "tool": None, "type": kind, "api": api}
    return {name: value for name, value in filled.items() if name in names}


def build_payload(messages: Conversation, now_ms: int, more: Mapping[str, str | None] = NO_INPUTS) -> bytes:
    """The body of a call, as JSON.

    The leading system messages become `inputs.system`, the last message `inputs.user`, and all
    after the leading ones `chatMessages`, the last one included, as the predecessor sent them.
    now_ms: Unix milliseconds; SAI's callers number the messages from there. more: further inputs.
    """
    leading = 0
    while leading < len(messages) and messages[leading].role == "system":
        leading += 1
    system = "\n\n".join([message.text for message in messages[:leading]]) if leading else ""
    inputs = {"system": system, "user": messages[-1].text, **more}
    history = [
        HistoryMessage(message.text, message.role, now_ms + index) for index, message in enumerate(messages[leading:])
    ]
    return msgspec.json.encode(Payload(inputs, history))


class TemplateRoad:
    """inputs: the names that the templates have for them."""

    accept = ACCEPT
    form = "template:ID[@MODEL]"

    def __init__(self, inputs: Collection[str] = ()) -> None:
        self._inputs = inputs

    def route(self, target: str, override: str | None) -> Route | None:
        can = Abilities(tools="read" if "tools" in self._inputs else "emulated")
        return Route(target, override, can=can) if _ID.fullmatch(target) else None

    def url(self, base_url: str, route: Route) -> str:
        return execute_url(base_url, route)

    def payload(self, conversation: Conversation, chat: ChatRequest, now_ms: int) -> bytes:
        named = len(self._inputs) > len(("system", "user"))
        more = more_inputs(self._inputs, conversation, chat.tools_json, chat.api) if named else NO_INPUTS
        return build_payload(conversation, now_ms, more)

    def reader(self, headers: Mapping[str, str], custom_tools: Collection[str]) -> AnswerReader:  # noqa: ARG002
        return TextReader(headers)
