"""The road `prompt`: `POST /api/prompt/v1/chat/completions`, with tools, images and sampling of its own. Pure.

Source: three public callers, who send a key, never stream, and send tools in a shape that depends on the model: flat
for `gpt-5*` unless `emea`, none for `gemini-*`, nested for all others; `@flat`, `@nested` and `@text` (tools in words)
say otherwise. Assumed: that `tool_choice` and `parallel_tool_calls` are taken beside tools.
"""

import json
import re
from collections.abc import Collection, Mapping
from typing import Any

import msgspec
from msgspec import Raw, Struct

from sai_proxy.conversation.abilities import Abilities
from sai_proxy.conversation.chat import ChatMessage, ChatRequest, Conversation, Route, Usage
from sai_proxy.conversation.events import Event, ToolCall
from sai_proxy.conversation.offer import Tool, Toolset
from sai_proxy.errors import ToolCallCut, UpstreamError, UpstreamProtocolError
from sai_proxy.sai_api.chat import without_system
from sai_proxy.sai_api.documents import (
    FINISH_REASONS,
    DocumentReader,
    Fields,
    count_in,
    decoded,
    fields_in,
    first_text,
    kind_of,
    refuse_bomb,
    text_in,
)
from sai_proxy.sai_api.entry_options import read_options, with_options
from sai_proxy.sai_api.readers import AnswerReader, sane_model

SAMPLING = ("temperature", "max_tokens", "seed")
MAX_CALLS = 256
"""Of one answer."""

SHAPES = ("flat", "nested", "text")
FREE_TEXT = "input"
"""The one argument of a function that stands for a tool of free text."""

_CAN = Abilities(tools="native", images=True, sampling=frozenset(SAMPLING), credentials=frozenset({"key"}))
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:-]*")


def shape_of(route: Route) -> str:
    """The shape in which the model takes tools: by its name, or as the entry says."""
    said = read_options(route.override, frozenset((*SHAPES, "no-sampling", "no-images"))) or frozenset()
    chosen = next((shape for shape in SHAPES if shape in said), None)
    if chosen is not None:
        return chosen
    if route.target.startswith("gemini-"):
        return "text"
    return "flat" if route.target.startswith("gpt-5") and "emea" not in route.target else "nested"


class PromptRoad:
    accept = "application/json"
    form = "prompt:MODEL[@flat|nested|text|key|cookie|both|no-sampling|no-images, joined by +]"

    def route(self, target: str, override: str | None) -> Route | None:
        options = read_options(override, frozenset((*SHAPES, "no-sampling", "no-images")))
        if options is None or len(options & set(SHAPES)) > 1 or not _MODEL.fullmatch(target):
            return None
        can = with_options(_CAN, options)
        route = Route(target, override, "prompt", can)
        tools = "emulated" if shape_of(route) == "text" else "native"
        images = can.images and "no-images" not in options
        return msgspec.structs.replace(route, can=msgspec.structs.replace(can, tools=tools, images=images))

    def url(self, base_url: str, route: Route) -> str:  # noqa: ARG002
        return f"{base_url}/api/prompt/v1/chat/completions"

    def payload(self, conversation: Conversation, chat: ChatRequest, now_ms: int) -> bytes:  # noqa: ARG002
        shape = shape_of(chat.route)
        told = without_system(conversation) if shape == "text" else conversation
        body: dict[str, Any] = {
            "model": chat.route.target,
            "messages": [_message(message) for message in told],
            **{name: chat.sampling[name] for name in SAMPLING if name in chat.sampling},
            "stream": False,
        }
        if chat.toolset is not None and shape != "text":
            body |= _tools(chat.toolset, shape)
        return msgspec.json.encode(body)

    def reader(self, headers: Mapping[str, str], custom_tools: Collection[str]) -> AnswerReader:
        return PromptReader(headers, custom_tools)


def _message(message: ChatMessage) -> dict[str, Any]:
    if message.role == "tool" and message.answers is not None:
        return {"role": "tool", "tool_call_id": message.answers.id, "content": message.text}
    if message.calls:
        calls = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": _arguments(call)}}
            for call in message.calls
        ]
        return {"role": message.role, "content": message.text or None, "tool_calls": calls}
    return {"role": message.role, "content": _content(message)}


def _content(message: ChatMessage) -> str | list[dict[str, Any]]:
    if not message.images:
        return message.text
    parts: list[dict[str, Any]] = []
    for index in range(len(message.parts) + 1):
        for image in message.images:
            if image.before == index:
                detail = {} if image.detail is None else {"detail": image.detail}
                parts.append({"type": "image_url", "image_url": {"url": image.url, **detail}})
        if index < len(message.parts) and message.parts[index]:
            parts.append({"type": "text", "text": message.parts[index]})
    return parts


def _arguments(call: ToolCall) -> str:
    return json.dumps({FREE_TEXT: call.arguments}, ensure_ascii=False) if call.kind == "custom" else call.arguments


def _tools(toolset: Toolset, shape: str) -> dict[str, Any]:
    functions = [_function(tool) for tool in toolset.offered]
    flat = shape == "flat"
    fields: dict[str, Any] = {
        "tools": [{"type": "function", **f} if flat else {"type": "function", "function": f} for f in functions]
    }
    if toolset.demand == "required":
        name = {"name": toolset.offered[0].name}
        one = {"type": "function", **name} if flat else {"type": "function", "function": name}
        fields["tool_choice"] = one if len(toolset.offered) == 1 else "required"
    if not toolset.parallel:
        fields["parallel_tool_calls"] = False
    return fields


def _function(tool: Tool) -> dict[str, Any]:
    parameters: Mapping[str, Any] = tool.parameters or {"type": "object", "properties": {}}
    if tool.kind == "custom":
        parameters = {"type": "object", "properties": {FREE_TEXT: {"type": "string"}}, "required": [FREE_TEXT]}
    described = {"description": tool.description + tool.grammar} if tool.description or tool.grammar else {}
    return {"name": tool.name, **described, "parameters": parameters, **({"strict": True} if tool.strict else {})}


class Function(Struct):
    name: str
    arguments: Raw = msgspec.field(default_factory=Raw)


class Call(Struct):
    """Nested, flat, or an item of the Responses API."""

    id: str | None = None
    call_id: str | None = None
    function: Function | None = None
    name: str | None = None
    arguments: Raw = msgspec.field(default_factory=Raw)


class Message(Struct):
    content: Raw = msgspec.field(default_factory=Raw)
    refusal: Raw = msgspec.field(default_factory=Raw)
    tool_calls: list[Call] | None = None
    function_call: Function | None = None


class Choice(Struct):
    message: Message | None = None
    text: Raw = msgspec.field(default_factory=Raw)
    finish_reason: str | None = None


class Item(Struct):
    """Of the Responses API's output."""

    type: str | None = None
    role: str | None = None
    content: Raw = msgspec.field(default_factory=Raw)
    id: str | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: Raw = msgspec.field(default_factory=Raw)


class PromptReader(DocumentReader):
    """One answer, in any of the three shapes that callers have met: a chat completion, a response, or a bare text."""

    def __init__(self, headers: Mapping[str, str], custom_tools: Collection[str]) -> None:
        super().__init__(headers)
        self._custom_tools = custom_tools

    def read(self, document: Fields) -> list[Event]:
        self.model = self.model or sane_model(text_in(document.get("model")))
        self._read_usage(document)
        if (text_in(document.get("status")) or "") in ("failed", "cancelled"):
            raise UpstreamError({"status": 200}, detail="SAI's answer says that it has failed")
        if kind_of(document.get("choices", Raw())) == "array":
            return self._read_choice(document["choices"])
        if kind_of(document.get("output", Raw())) == "array":
            return self._read_response(document)
        text = first_text(document, ("output_text", "output", "result", "Result"))
        if text is None:
            raise UpstreamProtocolError(detail=f"no text in SAI's answer, but {', '.join(document)[:200]}")
        return [text] if text else []

    def _read_choice(self, choices: Raw) -> list[Event]:
        refuse_bomb(choices)
        found: list[Choice] = decoded(choices, list[Choice])
        if not found:
            raise UpstreamProtocolError(detail="an answer without a choice")
        first, reason = found[0], found[0].finish_reason
        self.finish_reason = reason if reason in FINISH_REASONS else None
        message = first.message or Message()
        calls = message.tool_calls or []
        if message.function_call is not None:
            calls = [*calls, Call(function=message.function_call)]
        texts = (text_in(part) for part in (message.content, message.refusal, first.text))
        return self._events(next((text for text in texts if text), None), calls)

    def _read_response(self, document: Fields) -> list[Event]:
        refuse_bomb(document["output"])
        items: list[Item] = decoded(document["output"], list[Item])
        if text_in(document.get("status")) == "incomplete":
            reason = text_in(fields_in(document.get("incomplete_details")).get("reason"))
            self.finish_reason = "content_filter" if reason == "content_filter" else "length"
        texts = [text_in(item.content) for item in items if item.type == "message" and item.role in (None, "assistant")]
        said = "".join(text for text in texts if text) or text_in(document.get("output_text"))
        made = [item for item in items if item.type == "function_call"]
        calls = [Call(id=i.id, call_id=i.call_id, name=i.name, arguments=i.arguments) for i in made]
        return self._events(said, calls)

    def _events(self, text: str | None, calls: list[Call]) -> list[Event]:
        if len(calls) > MAX_CALLS:
            raise UpstreamProtocolError(detail=f"an answer with {len(calls)} tool calls")
        events: list[Event] = [text] if text else []
        for call in calls:
            events += self._call(call).events()
        return events

    def _call(self, call: Call) -> ToolCall:
        """Its id is empty where SAI gave none."""
        function = call.function or (Function(call.name, call.arguments) if call.name else None)
        if function is None:
            raise UpstreamProtocolError(detail="a tool call without a name")
        raw = function.arguments
        arguments = str(decoded(raw, str)) if kind_of(raw) == "string" else bytes(raw).decode()
        if arguments in ("", "null"):
            arguments = "{}"
        if self.finish_reason is not None and not _is_json(arguments):
            raise ToolCallCut(detail=f"arguments of {function.name[:100]} that were cut")
        name = call.call_id or call.id or ""
        if function.name in self._custom_tools:
            return ToolCall(name, function.name, _free_text(arguments), "custom")
        return ToolCall(name, function.name, arguments)

    def _read_usage(self, document: Fields) -> None:
        usage = fields_in(document.get("usage"))
        prompt = count_in(usage, "prompt_tokens", "input_tokens")
        completion = count_in(usage, "completion_tokens", "output_tokens")
        if prompt is not None or completion is not None:
            self.usage = Usage(prompt, completion)


def _is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError):
        return False
    return True


def _free_text(arguments: str) -> str:
    try:
        fields: Fields = msgspec.json.decode(arguments, type=Fields)
    except (msgspec.MsgspecError, RecursionError):
        return arguments
    text = text_in(fields.get(FREE_TEXT))
    return arguments if text is None else text
