"""The response object of `POST /v1/responses`: what it tells back of the request, its items, its usage.

Source: OpenAI's API reference, and which of its clients break without which field. What is the same in every
event of an answer is encoded once.
"""

from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from sai_proxy.conversation.events import CallKind, ToolCall
from sai_proxy.openai_api.raw import asks, is_given
from sai_proxy.openai_api.response_tools import ToolNames
from sai_proxy.openai_api.responses_request import ResponsesRequest
from sai_proxy.openai_api.usage import UsageBody


class OutputText(Struct, kw_only=True):
    type: str = "output_text"
    text: str
    annotations: tuple[()] = ()
    logprobs: tuple[()] = ()


class OutputMessage(Struct, tag_field="type", tag="message", kw_only=True):
    id: str
    role: str = "assistant"
    status: str
    content: list[OutputText]


class AnsweredFunctionCall(Struct, tag_field="type", tag="function_call", kw_only=True):
    id: str
    status: str
    call_id: str
    namespace: str | UnsetType = UNSET
    name: str
    arguments: str


class AnsweredCustomCall(Struct, tag_field="type", tag="custom_tool_call", kw_only=True):
    id: str
    status: str
    call_id: str
    namespace: str | UnsetType = UNSET
    name: str
    input: str


Item = OutputMessage | AnsweredFunctionCall | AnsweredCustomCall


class InputDetails(Struct):
    cached_tokens: int = 0
    cache_write_tokens: int = 0


class OutputDetails(Struct):
    reasoning_tokens: int = 0


class ResponseUsage(Struct):
    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class ResponseError(Struct):
    code: str
    message: str


class IncompleteDetails(Struct):
    reason: str


class Told(Struct, kw_only=True):
    """What a response object says of its request: the same in all events."""

    id: str
    object: str = "response"
    created_at: int
    model: str
    instructions: str | None = None
    tools: Any = ()
    tool_choice: Any = "auto"
    parallel_tool_calls: bool = True
    max_output_tokens: int | None = None
    max_tool_calls: int | None = None
    previous_response_id: str | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    text: Any = msgspec.field(default_factory=lambda: Raw(b'{"format":{"type":"text"}}'))
    reasoning: Any = msgspec.field(default_factory=lambda: Raw(b'{"effort":null,"summary":null}'))
    truncation: str = "disabled"
    metadata: Any = msgspec.field(default_factory=lambda: Raw(b"{}"))
    store: bool = False
    background: bool = False


class Outcome(Struct, kw_only=True):
    """What changes from event to event."""

    status: str
    error: ResponseError | None = None
    incomplete_details: IncompleteDetails | None = None
    output: list[Raw]
    usage: ResponseUsage | UnsetType = UNSET


class ResponseObject(Told, kw_only=True):
    """All of it, for the OpenAPI document; it is written in its two halves."""

    status: str
    error: ResponseError | None = None
    incomplete_details: IncompleteDetails | None = None
    output: list[Item]
    usage: ResponseUsage | UnsetType = UNSET


_dict_decoder = msgspec.json.Decoder(dict[str, Raw])
_tools_decoder = msgspec.json.Decoder(list[dict[str, Raw]])
_NULL = Raw(b"null")


def told_of(wire: ResponsesRequest, *, name: str, created_at: int, store: bool) -> bytes:
    """JSON of what stands in every response object of an answer, without its last brace. name: its id."""
    return open_object(
        Told(
            id=name,
            created_at=created_at,
            model=wire.model,
            instructions=wire.instructions,
            tools=_told_tools(wire.tools),
            tool_choice=wire.tool_choice if is_given(wire.tool_choice) else "auto",
            parallel_tool_calls=wire.parallel_tool_calls is not False,
            max_output_tokens=wire.max_output_tokens,
            max_tool_calls=wire.max_tool_calls,
            previous_response_id=wire.previous_response_id,
            temperature=1.0 if wire.temperature is None else wire.temperature,
            top_p=1.0 if wire.top_p is None else wire.top_p,
            text=_told_text(wire.text),
            reasoning=wire.reasoning if is_given(wire.reasoning) else {"effort": None, "summary": None},
            truncation=wire.truncation or "disabled",
            metadata=wire.metadata if is_given(wire.metadata) else {},
            store=store,
        )
    )


def open_object(told: Told) -> bytes:
    """JSON of it, without its last brace."""
    return msgspec.json.encode(told)[:-1]


def whole_object(told: bytes, outcome: Outcome) -> bytes:
    """JSON of a response object."""
    return told + b"," + msgspec.json.encode(outcome)[1:]


def response_usage(usage: UsageBody) -> ResponseUsage:
    """The same numbers under this endpoint's names."""
    return ResponseUsage(
        usage.prompt_tokens, InputDetails(), usage.completion_tokens, OutputDetails(), usage.total_tokens
    )


def message_item(id: str, texts: list[str], status: str) -> OutputMessage:
    """An assistant's message. texts: of its parts."""
    return OutputMessage(id=id, status=status, content=[OutputText(text=text) for text in texts])


def call_item(id: str, call: ToolCall, names: ToolNames, status: str) -> AnsweredFunctionCall | AnsweredCustomCall:
    """A tool call, its name taken apart if it is of a namespace."""
    namespace, name = names.split(call.name)
    inner: str | UnsetType = UNSET if namespace is None else namespace
    if call.kind == "custom":
        return AnsweredCustomCall(
            id=id, status=status, call_id=call.id, namespace=inner, name=name, input=call.arguments
        )
    return AnsweredFunctionCall(
        id=id, status=status, call_id=call.id, namespace=inner, name=name, arguments=call.arguments
    )


def item_prefix(kind: CallKind | None) -> str:
    """How the ids of items begin. kind: of a call, None of a message."""
    return {None: "msg_", "function": "fc_", "custom": "ctc_"}[kind]


def _told_tools(tools: Raw) -> list[Any] | Raw:
    """The tools as they were sent; of functions the schema wants two keys that clients leave out."""
    if not asks(tools):
        return []
    return [
        {"parameters": _NULL, "strict": _NULL, **tool} if bytes(tool.get("type", b"")) == b'"function"' else tool
        for tool in _tools_decoder.decode(tools)
    ]


def _told_text(text: Raw) -> dict[str, Any]:
    fields: dict[str, Any] = dict(_dict_decoder.decode(text)) if is_given(text) else {}
    if not is_given(fields.get("format", Raw())):
        fields["format"] = {"type": "text"}
    return fields
