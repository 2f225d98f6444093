"""`POST /v1/chat/completions`: the request's wire type, and what of it can be honoured.

`parameters` says what becomes of each field, and why.
"""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from sai_proxy.conversation.chat import ChatRequest, Route
from sai_proxy.errors import UnsupportedParameter
from sai_proxy.openai_api.decoding import decode_body
from sai_proxy.openai_api.fields import (
    ChoiceCount,
    LiteLlmParams,
    Penalty,
    StreamOptions,
    Temperature,
    TokenLimit,
    TopP,
    read_max_chars,
    read_n,
    read_stops,
    refuse_if_asked,
    route_of,
)
from sai_proxy.openai_api.messages import Messages, read_messages
from sai_proxy.openai_api.parameters import CHAT_PARAMETERS, ignored_names


class ResponseFormat(Struct):
    type: str
    json_schema: Any = None


class ChatCompletionRequest(Struct, kw_only=True):
    """Every documented field; undocumented ones are tolerated, as they occur in real traffic."""

    model: str
    messages: Messages
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: ChoiceCount | None = None
    max_completion_tokens: TokenLimit | None = None
    max_tokens: TokenLimit | None = None
    stop: str | list[str] | None = None
    response_format: ResponseFormat | None = None
    tools: list[Any] | None = None
    tool_choice: str | dict[str, Any] | None = None
    functions: list[Any] | None = None
    function_call: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    logit_bias: dict[str, float] | None = None
    modalities: list[str] | None = None
    audio: dict[str, Any] | None = None
    web_search_options: dict[str, Any] | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    seed: int | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None
    prediction: dict[str, Any] | None = None
    moderation: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    service_tier: str | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
    prompt_cache_retention: str | None = None
    litellm_params: LiteLlmParams | None = None


_IGNORED = ignored_names(CHAT_PARAMETERS)
_decoder = msgspec.json.Decoder(ChatCompletionRequest)


def decode_chat_request(body: bytes) -> ChatCompletionRequest:
    """Raises InvalidRequest with `param` naming the place that is wrong."""
    return decode_body(body, _decoder)


def read_chat_request(wire: ChatCompletionRequest, routes: Mapping[str, Route]) -> ChatRequest:
    """What `wire` asks for.

    routes: the models that are served. Raises ModelNotFound, or InvalidRequest for what SAI's text
    cannot honour.
    """
    refuse_unsupported(wire)
    conversation = read_messages(wire.messages)
    return ChatRequest(
        model=wire.model,
        route=route_of(wire.model, routes),
        conversations=(conversation,),
        n=read_n(wire.n),
        stream=bool(wire.stream),
        stops=read_stops(wire.stop),
        max_chars=read_max_chars(wire.max_completion_tokens or wire.max_tokens),
        ignored=tuple(name for name in _IGNORED if getattr(wire, name) is not None),
    )


def refuse_unsupported(wire: ChatCompletionRequest) -> None:
    """Raises UnsupportedParameter or UnsupportedValue for the first field that cannot be honoured."""
    refuse_if_asked(wire, ("tools", "functions", "logprobs", "top_logprobs", "logit_bias", "audio"))
    if wire.web_search_options is not None:
        raise UnsupportedParameter(param="web_search_options")
    if wire.tool_choice not in (None, "none", "auto"):
        raise UnsupportedParameter(param="tool_choice")
    if wire.function_call not in (None, "none", "auto"):
        raise UnsupportedParameter(param="function_call")
    if wire.modalities and wire.modalities != ["text"]:
        raise UnsupportedParameter(param="modalities")
    if wire.response_format is not None and wire.response_format.type != "text":
        raise UnsupportedParameter(param="response_format")
