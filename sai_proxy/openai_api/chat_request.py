"""`POST /v1/chat/completions`: the request's wire type, and what of it can be honoured.

The rule: a field that only steers sampling or bookkeeping is ignored; one that promises something
about the answer is honoured or refused. Nothing is pretended.
"""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from sai_proxy.chat import ChatRequest, Route
from sai_proxy.errors import ModelNotFound, UnsupportedParameter, UnsupportedValue
from sai_proxy.openai_api.decoding import decode_body
from sai_proxy.openai_api.messages import Messages, read_messages


class StreamOptions(Struct):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class KeyMetadata(Struct):
    user_api_key: str | None = None


class LiteLlmParams(Struct):
    """Where the predecessor's users put their own SAI key. Never leaves this server."""

    metadata: KeyMetadata | None = None


class ResponseFormat(Struct):
    type: str
    json_schema: Any = None


Penalty = Annotated[float, Meta(ge=-2, le=2)]


class ChatCompletionRequest(Struct, kw_only=True):
    """Every documented field; undocumented ones are tolerated, as they occur in real traffic."""

    model: str
    messages: Messages
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    max_completion_tokens: Annotated[int, Meta(ge=1)] | None = None
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
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
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
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


IGNORED = (
    "max_completion_tokens",
    "max_tokens",
    "stop",
    "parallel_tool_calls",
    "temperature",
    "top_p",
    "frequency_penalty",
    "presence_penalty",
    "seed",
    "reasoning_effort",
    "verbosity",
    "prediction",
    "moderation",
    "metadata",
    "store",
    "service_tier",
    "user",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
)
"""Fields that SAI has no place for and that change nothing which a client could rely on."""

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
        stream=bool(wire.stream),
        ignored=tuple(name for name in IGNORED if getattr(wire, name) is not None),
    )


def route_of(model: str, routes: Mapping[str, Route]) -> Route:
    """The route of `model`. Raises ModelNotFound."""
    try:
        return routes[model]
    except KeyError:
        raise ModelNotFound({"model": model[:100], "known": ", ".join(routes)}) from None


def refuse_unsupported(wire: ChatCompletionRequest) -> None:
    """Raises UnsupportedParameter or UnsupportedValue for the first field that cannot be honoured."""
    if wire.n is not None and wire.n > 1:
        raise UnsupportedValue({"allowed": "1"}, param="n")
    for name in ("tools", "functions", "logprobs", "top_logprobs", "logit_bias", "audio"):
        if getattr(wire, name):  # empty lists, maps and zeroes ask for nothing
            raise UnsupportedParameter(param=name)
    if wire.web_search_options is not None:
        raise UnsupportedParameter(param="web_search_options")
    if wire.tool_choice not in (None, "none", "auto"):
        raise UnsupportedParameter(param="tool_choice")
    if wire.function_call not in (None, "none", "auto"):
        raise UnsupportedParameter(param="function_call")
    if wire.modalities and wire.modalities != ["text"]:
        raise UnsupportedValue({"allowed": '["text"]'}, param="modalities")
    if wire.response_format is not None and wire.response_format.type != "text":
        raise UnsupportedParameter(param="response_format")
