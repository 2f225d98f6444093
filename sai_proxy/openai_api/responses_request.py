"""`POST /v1/responses`: the request's wire type, and what of it can be honoured.

`parameters` says what becomes of each field, and why. Clients send much unasked; nothing of that is refused.
"""

from collections.abc import Mapping
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta, Raw, Struct, field

from sai_proxy.conversation.chat import ChatMessage, ChatRequest, Route
from sai_proxy.conversation.offer import OutputFormat
from sai_proxy.errors import (
    ArrayTooLong,
    InvalidValue,
    PreviousResponseNotFound,
    UnsupportedParameter,
    UnsupportedValue,
)
from sai_proxy.openai_api.content import ContentRules
from sai_proxy.openai_api.decoding import decode_body, decode_field
from sai_proxy.openai_api.fields import (
    LiteLlmParams,
    Rarely,
    Temperature,
    TokenLimit,
    TopP,
    read_ignored,
    read_max_chars,
    read_sampling,
    refuse_if_asked,
    route_of,
)
from sai_proxy.openai_api.kept_responses import Recalled, conversation_of
from sai_proxy.openai_api.messages import MAX_MESSAGES
from sai_proxy.openai_api.parameters import RESPONSES_PARAMETERS, ignored_names
from sai_proxy.openai_api.raw import (
    Anything,
    ArrayOrNull,
    ObjectOrNull,
    StringOrObject,
    StringsOrNull,
    absent,
    asks,
    check_kind,
    is_given,
)
from sai_proxy.openai_api.response_items import PlacedItem, place_items, read_items
from sai_proxy.openai_api.response_tools import ToolNames, read_response_tools
from sai_proxy.openai_api.tools import JsonSchema, check_size, output_of


class ResponsesRequest(Struct, kw_only=True):
    """Every documented field; undocumented ones are tolerated, as they occur in real traffic."""

    model: str
    input: Annotated[
        Raw, Meta(extra_json_schema={"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}}]})
    ]
    instructions: str | None = None
    stream: bool | None = None
    stream_options: ObjectOrNull = field(default_factory=absent)
    max_output_tokens: TokenLimit | None = None
    tools: ArrayOrNull = field(default_factory=absent)
    tool_choice: StringOrObject = field(default_factory=absent)
    parallel_tool_calls: bool | None = None
    max_tool_calls: int | None = None
    text: ObjectOrNull = field(default_factory=absent)
    previous_response_id: str | None = None
    store: bool | None = None
    truncation: str | None = None
    include: StringsOrNull = field(default_factory=absent)
    reasoning: ObjectOrNull = field(default_factory=absent)
    metadata: ObjectOrNull = field(default_factory=absent)
    conversation: StringOrObject = field(default_factory=absent)
    prompt: ObjectOrNull = field(default_factory=absent)
    background: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    context_management: Anything = field(default_factory=absent)
    moderation: ObjectOrNull = field(default_factory=absent)
    client_metadata: ObjectOrNull = field(default_factory=absent)
    service_tier: str | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: ObjectOrNull = field(default_factory=absent)
    prompt_cache_retention: str | None = None
    litellm_params: LiteLlmParams | None = None


class TextFormat(Struct):
    """`text.format`: flat, unlike chat's."""

    type: str
    name: str | None = None
    schema: Anything = field(default_factory=absent)
    strict: bool | None = None
    description: str | None = None


class TextConfig(Struct):
    format: TextFormat | None = None
    verbosity: str | None = None


class ReadRequest(NamedTuple):
    """What a body asks for. items: what was new in its input. names: of its tools."""

    chat: ChatRequest
    items: list[PlacedItem]
    names: ToolNames


_ignored = Rarely(ResponsesRequest(model="", input=Raw()), ignored_names(RESPONSES_PARAMETERS))
_OBJECTS = ("stream_options", "text", "reasoning", "metadata", "prompt", "moderation", "client_metadata")
_decoder = msgspec.json.Decoder(ResponsesRequest)
_text_decoder = msgspec.json.Decoder(TextConfig)
_schema_decoder = msgspec.json.Decoder(JsonSchema)
_object_decoder = msgspec.json.Decoder(dict[str, object])
_include_decoder = msgspec.json.Decoder(str | list[str])

_raw_decoder = msgspec.json.Decoder(Raw)

MAX_NESTING = 500
_DECODED_DEPTH = 400
"""What is left of the decoder's own limit, about 1,000, stays for what stands around it."""

LOGPROBS = "message.output_text.logprobs"


def decode_responses_request(body: bytes | bytearray) -> ResponsesRequest:
    """Raises InvalidRequest with `param` naming the place that is wrong."""
    wire = decode_body(body, _decoder)
    _check_nesting(body)
    return wire


def _check_nesting(body: bytes | bytearray) -> None:
    """Raises InvalidValue for what is nested nearly as deep as the decoder goes: it is told back, and kept, inside of
    more."""
    if body.count(b"{") + body.count(b"[") <= MAX_NESTING:
        return
    try:
        _raw_decoder.decode(b"".join((b"[" * _DECODED_DEPTH, body, b"]" * _DECODED_DEPTH)))
    except RecursionError as exc:
        problem = {"problem_en": "nested too deeply", "problem_es": "demasiados niveles de anidamiento"}
        raise InvalidValue(problem) from exc


def read_responses_request(wire: ResponsesRequest, routes: Mapping[str, Route], recalled: Recalled) -> ReadRequest:
    """What `wire` asks for.

    routes: the models that are served. recalled: the kept answers that it refers to. Raises ModelNotFound, or
    InvalidRequest for what SAI's text cannot honour.
    """
    for name in _OBJECTS:
        check_kind(getattr(wire, name), name, "object")
    route = route_of(wire.model, routes)
    _refuse_unsupported(wire)
    tools = read_response_tools(wire.tools, wire.tool_choice, parallel=wire.parallel_tool_calls)
    items, earlier = place_items(wire.input, recalled), _earlier(wire, recalled)
    if len(earlier) + len(items) > MAX_MESSAGES:
        raise ArrayTooLong({"limit": MAX_MESSAGES}, param="previous_response_id")
    conversation = read_items([*earlier, *items], tools.names, ContentRules(wire.model, routes))
    if wire.instructions:
        conversation = (ChatMessage("system", (wire.instructions,)), *conversation)
    chat = ChatRequest(
        model=wire.model,
        route=route,
        conversations=(conversation or (ChatMessage("user", ("",)),),),
        stream=bool(wire.stream),
        max_chars=read_max_chars(wire.max_output_tokens, route),
        sampling=read_sampling(wire, wire.max_output_tokens, route),
        toolset=tools.toolset,
        output=_read_output(wire.text),
        tools_json=bytes(wire.tools).decode() if tools.toolset is not None else None,
        left_out=tools.left_out,
        truncate=wire.truncation == "auto",
        api="responses",
        text_param="input",
        ignored=read_ignored(wire, _ignored, route),
    )
    return ReadRequest(chat, items, tools.names)


def _earlier(wire: ResponsesRequest, recalled: Recalled) -> list[PlacedItem]:
    """The items of the conversation that it goes on with."""
    if wire.previous_response_id is None:
        return []
    earlier = conversation_of(wire.previous_response_id, recalled)
    if earlier is None:
        raise PreviousResponseNotFound({"id": wire.previous_response_id[:100]}, param="previous_response_id")
    return [PlacedItem("previous_response_id", item) for item in earlier]


def _refuse_unsupported(wire: ResponsesRequest) -> None:
    """Raises UnsupportedParameter or UnsupportedValue for the first field that cannot be honoured."""
    refuse_if_asked(wire, ("conversation", "prompt", "background", "top_logprobs"))
    if wire.truncation not in (None, "auto", "disabled"):
        raise UnsupportedValue({"allowed": "auto, disabled"}, param="truncation")
    check_kind(wire.include, "include", "array")
    if asks(wire.include) and LOGPROBS in decode_field(wire.include, _include_decoder, "include"):
        raise UnsupportedParameter(param="include")


def _read_output(text: Raw) -> OutputFormat | None:
    """The form that the answer has to have, None for free text. Raises InvalidRequest."""
    wire = decode_field(text, _text_decoder, "text").format if is_given(text) else None
    if wire is None or wire.type == "text":
        return None
    if wire.type == "json_object":
        return OutputFormat()
    if wire.type != "json_schema":
        raise UnsupportedValue({"allowed": "text, json_object, json_schema"}, param="text.format.type")
    check_size(wire.schema, "text.format.schema")
    schema = decode_field(wire.schema, _object_decoder, "text.format.schema") if is_given(wire.schema) else None
    return output_of(JsonSchema(wire.name, schema, wire.strict), "text.format")
