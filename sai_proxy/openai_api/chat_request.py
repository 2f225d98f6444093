"""`POST /v1/chat/completions`: the request's wire type, and what of it can be honoured.

`parameters` says what becomes of each field, and why.
"""

from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import Meta, Struct, field

from sai_proxy.conversation.chat import ChatRequest, Route
from sai_proxy.errors import UnsupportedParameter
from sai_proxy.openai_api.content import ContentRules
from sai_proxy.openai_api.decoding import decode_body
from sai_proxy.openai_api.fields import (
    ChoiceCount,
    LiteLlmParams,
    Penalty,
    Rarely,
    StreamOptions,
    Temperature,
    TokenLimit,
    TopP,
    read_ignored,
    read_max_chars,
    read_n,
    read_sampling,
    read_stops,
    refuse_if_asked,
    route_of,
)
from sai_proxy.openai_api.messages import Messages, read_messages
from sai_proxy.openai_api.parameters import CHAT_PARAMETERS, ignored_names
from sai_proxy.openai_api.raw import (
    ArrayOrNull,
    ObjectOrNull,
    StringOrObject,
    StringsOrNull,
    absent,
    asks,
    check_kind,
    is_given,
)
from sai_proxy.openai_api.tools import ResponseFormat, read_functions, read_output, read_toolset


class ChatCompletionRequest(Struct, kw_only=True):
    """Every documented field; undocumented ones are tolerated, as they occur in real traffic."""

    model: str
    messages: Messages
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: ChoiceCount | None = None
    max_completion_tokens: TokenLimit | None = None
    max_tokens: TokenLimit | None = None
    stop: StringsOrNull = field(default_factory=absent)
    response_format: ResponseFormat | None = None
    tools: ArrayOrNull = field(default_factory=absent)
    tool_choice: StringOrObject = field(default_factory=absent)
    functions: ArrayOrNull = field(default_factory=absent)
    function_call: StringOrObject = field(default_factory=absent)
    parallel_tool_calls: bool | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    logit_bias: ObjectOrNull = field(default_factory=absent)
    modalities: ArrayOrNull = field(default_factory=absent)
    audio: ObjectOrNull = field(default_factory=absent)
    web_search_options: ObjectOrNull = field(default_factory=absent)
    temperature: Temperature | None = None
    top_p: TopP | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    seed: int | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None
    prediction: ObjectOrNull = field(default_factory=absent)
    moderation: ObjectOrNull = field(default_factory=absent)
    metadata: ObjectOrNull = field(default_factory=absent)
    store: bool | None = None
    service_tier: str | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: ObjectOrNull = field(default_factory=absent)
    prompt_cache_retention: str | None = None
    litellm_params: LiteLlmParams | None = None


_ignored = Rarely(ChatCompletionRequest(model="", messages=[]), ignored_names(CHAT_PARAMETERS))
_KINDS = {
    "object": ("logit_bias", "audio", "web_search_options", "prediction", "moderation", "metadata"),
    "array": ("modalities",),
}
_decoder = msgspec.json.Decoder(ChatCompletionRequest)
_rarely = Rarely(
    ChatCompletionRequest(model="", messages=[]),
    set(ChatCompletionRequest.__struct_fields__) - {"model", "messages", "stream", "stream_options", "litellm_params"},
)


def decode_chat_request(body: bytes | bytearray) -> ChatCompletionRequest:
    """Raises InvalidRequest with `param` naming the place that is wrong."""
    return decode_body(body, _decoder)


def read_chat_request(wire: ChatCompletionRequest, routes: Mapping[str, Route]) -> ChatRequest:
    """What `wire` asks for.

    routes: the models that are served. Raises ModelNotFound, or InvalidRequest for what SAI's text
    cannot honour.
    """
    rare = _rarely.sent_in(wire)
    if rare:
        _check_kinds(wire)
        refuse_unsupported(wire)
    route = route_of(wire.model, routes)
    conversation = read_messages(wire.messages, ContentRules(wire.model, routes))
    if not rare:
        return ChatRequest(model=wire.model, route=route, conversations=(conversation,), stream=bool(wire.stream))
    max_tokens = wire.max_completion_tokens or wire.max_tokens
    toolset = read_toolset(wire.tools, wire.tool_choice, parallel=wire.parallel_tool_calls)
    if toolset is None and not asks(wire.tools):
        toolset = read_functions(wire.functions, wire.function_call)
    return ChatRequest(
        model=wire.model,
        route=route,
        conversations=(conversation,),
        choices=read_n(wire.n),
        stream=bool(wire.stream),
        stops=read_stops(wire.stop),
        max_chars=read_max_chars(max_tokens, route),
        sampling=read_sampling(wire, max_tokens, route),
        toolset=toolset,
        output=read_output(wire.response_format),
        tools_json=bytes(wire.tools).decode() if toolset is not None and asks(wire.tools) else None,
        ignored=read_ignored(wire, _ignored, route),
    )


def _check_kinds(wire: ChatCompletionRequest) -> None:
    for kind, names in _KINDS.items():
        for name in names:
            check_kind(getattr(wire, name), name, kind)


def refuse_unsupported(wire: ChatCompletionRequest) -> None:
    """Raises UnsupportedParameter or UnsupportedValue for the first field that cannot be honoured."""
    refuse_if_asked(wire, ("logprobs", "top_logprobs", "logit_bias", "audio"))
    if is_given(wire.web_search_options):
        raise UnsupportedParameter(param="web_search_options")
    if asks(wire.modalities) and bytes(wire.modalities).translate(None, b" \t\r\n") != b'["text"]':
        raise UnsupportedParameter(param="modalities")
