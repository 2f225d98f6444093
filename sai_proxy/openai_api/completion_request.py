"""`POST /v1/completions`, the legacy endpoint of IDE autocompletion and old scripts.

A prompt becomes a conversation of one user message; several prompts, one conversation each.
"""

import re
from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import Meta, Raw, Struct, field

from sai_proxy.conversation.chat import ChatMessage, ChatRequest, Conversation, Route
from sai_proxy.errors import EmptyArray, InvalidType, UnsupportedValue
from sai_proxy.openai_api.decoding import decode_body, decode_field
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
from sai_proxy.openai_api.parameters import COMPLETION_PARAMETERS, ignored_names
from sai_proxy.openai_api.raw import (
    ObjectOrNull,
    Strings,
    StringsOrNull,
    absent,
    check_kind,
    is_given,
    kind_of,
    strings,
)

MAX_CHOICES = 32
"""Of one request: each is a call to SAI."""

MAX_REPEATED_CHARS = 512 * 1024
"""Of a suffix, which is asked once more with each further prompt."""

FILL_IN = (
    "The user's message has a text before and after a gap, in the tags <prefix> and <suffix>. "
    "Answer with exactly the text that belongs into the gap: nothing of what stands around it, no tags, "
    "no code fences and no explanation."
)


class CompletionRequest(Struct, kw_only=True):
    """Every documented field; undocumented ones are tolerated."""

    model: str
    prompt: Strings
    suffix: str | None = None
    max_tokens: TokenLimit | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    n: ChoiceCount | None = None
    best_of: ChoiceCount | None = None
    echo: bool | None = None
    stop: StringsOrNull = field(default_factory=absent)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    logprobs: Annotated[int, Meta(ge=0, le=5)] | None = None
    logit_bias: ObjectOrNull = field(default_factory=absent)
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    seed: int | None = None
    user: str | None = None
    litellm_params: LiteLlmParams | None = None


_ignored = Rarely(CompletionRequest(model="", prompt=Raw()), ignored_names(COMPLETION_PARAMETERS))
_decoder = msgspec.json.Decoder(CompletionRequest)
_prompt_decoder: "msgspec.json.Decoder[str | list[str]]" = msgspec.json.Decoder(str | list[str])
_TOKENS = re.compile(rb"\[\s*[-\d\[]")
_SLACK = 64
"""Strings that end in a backslash count for less than two quotes."""


def decode_completion_request(body: bytes | bytearray) -> CompletionRequest:
    """Raises InvalidRequest with `param` naming the place that is wrong."""
    return decode_body(body, _decoder)


def read_completion_request(wire: CompletionRequest, routes: Mapping[str, Route]) -> ChatRequest:
    """What `wire` asks for. Raises ModelNotFound, or InvalidRequest for what cannot be honoured."""
    check_kind(wire.logit_bias, "logit_bias", "object")
    refuse_if_asked(wire, ("logprobs", "logit_bias"))
    n, prompts = read_n(wire.n), _read_prompts(wire.prompt)
    if wire.best_of is not None and wire.best_of != n:
        raise UnsupportedValue({"allowed": str(n)}, param="best_of")
    if len(prompts) * n > MAX_CHOICES:
        raise UnsupportedValue({"allowed": f"prompts * n <= {MAX_CHOICES}"}, param="prompt")
    if (len(prompts) - 1) * len(wire.suffix or "") > MAX_REPEATED_CHARS:
        raise UnsupportedValue({"allowed": f"(prompts - 1) * length <= {MAX_REPEATED_CHARS}"}, param="suffix")
    route = route_of(wire.model, routes)
    return ChatRequest(
        model=wire.model,
        route=route,
        conversations=tuple(_conversation(prompt, wire.suffix) for prompt in prompts),
        choices=len(prompts) * n,
        stream=bool(wire.stream),
        stops=read_stops(wire.stop),
        max_chars=read_max_chars(wire.max_tokens, route),
        sampling=read_sampling(wire, wire.max_tokens, route),
        echoes=tuple(prompts) if wire.echo else (),
        text_param="prompt",
        ignored=read_ignored(wire, _ignored, route),
    )


def _read_prompts(raw: Raw) -> list[str]:
    """Raises InvalidRequest. Token ids are told apart before anything is decoded: there may be millions."""
    check_kind(raw, "prompt", "string", "array")
    if not is_given(raw):
        raise InvalidType({"expected": "string | array", "found": "null"}, param="prompt")
    if _TOKENS.match(memoryview(raw)):
        raise UnsupportedValue({"allowed": "string | array of strings"}, param="prompt")
    if kind_of(raw) == "array" and strings(raw) > 2 * MAX_CHOICES + _SLACK:
        raise UnsupportedValue({"allowed": f"prompts * n <= {MAX_CHOICES}"}, param="prompt")
    prompts = decode_field(raw, _prompt_decoder, "prompt")
    if not prompts and isinstance(prompts, list):
        raise EmptyArray(param="prompt")
    return [prompts] if isinstance(prompts, str) else prompts


def _conversation(prompt: str, suffix: str | None) -> Conversation:
    if not suffix:
        return (ChatMessage("user", (prompt,)),)
    gap = f"<prefix>{prompt}</prefix><suffix>{suffix}</suffix>"
    return (ChatMessage("system", (FILL_IN,)), ChatMessage("user", (gap,)))
