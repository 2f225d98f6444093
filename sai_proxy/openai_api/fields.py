"""Types and rules of request fields that both text endpoints have."""

from collections.abc import Mapping
from typing import Annotated, Protocol

from msgspec import Meta, Struct

from sai_proxy.conversation.chat import Route
from sai_proxy.conversation.tokens import CHARS_PER_TOKEN
from sai_proxy.errors import InvalidValue, ModelNotFound, UnsupportedParameter, UnsupportedValue

MAX_N = 8
"""Choices of one conversation: each is a call to SAI of its own."""

MAX_STOPS = 16
"""OpenAI takes 4; Continue sends more, as it caps them for OpenAI's own host only."""


class StreamOptions(Struct):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class KeyMetadata(Struct):
    user_api_key: str | None = None


class LiteLlmParams(Struct):
    """Where the predecessor's users put their own SAI key. Never leaves this server."""

    metadata: KeyMetadata | None = None


TokenLimit = Annotated[int, Meta(ge=1)]
Temperature = Annotated[float, Meta(ge=0, le=2)]
TopP = Annotated[float, Meta(ge=0, le=1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
ChoiceCount = Annotated[int, Meta(ge=1, le=128)]


class TextRequest(Protocol):
    """What the wire types of both endpoints have in common."""

    @property
    def model(self) -> str: ...
    @property
    def stream(self) -> bool | None: ...
    @property
    def stream_options(self) -> StreamOptions | None: ...
    @property
    def litellm_params(self) -> LiteLlmParams | None: ...


def route_of(model: str, routes: Mapping[str, Route]) -> Route:
    """The route of `model`. Raises ModelNotFound."""
    try:
        return routes[model]
    except KeyError:
        raise ModelNotFound({"model": model[:100], "known": ", ".join(routes)}) from None


def read_n(n: int | None) -> int:
    """Choices of a conversation. Raises UnsupportedValue above what is affordable."""
    if n is not None and n > MAX_N:
        raise UnsupportedValue({"allowed": f"1..{MAX_N}"}, param="n")
    return n or 1


def read_stops(stop: str | list[str] | None) -> tuple[str, ...]:
    """Stop strings. Raises InvalidRequest for too many, or an empty one."""
    stops = () if stop is None else (stop,) if isinstance(stop, str) else tuple(stop)
    if len(stops) > MAX_STOPS:
        raise UnsupportedValue({"allowed": f"1..{MAX_STOPS}"}, param="stop")
    if "" in stops:
        raise InvalidValue({"problem_en": "a stop string is empty", "problem_es": "hay una cadena vacía"}, param="stop")
    return stops


def read_max_chars(max_tokens: int | None) -> int | None:
    """The length, in code points, that stands for a number of tokens."""
    return None if max_tokens is None else max_tokens * CHARS_PER_TOKEN


def user_key_of(request: TextRequest) -> str | None:
    """The user's own SAI key, if the body holds one."""
    parameters = request.litellm_params
    return parameters.metadata.user_api_key if parameters and parameters.metadata else None


def refuse_if_asked(request: object, names: tuple[str, ...]) -> None:
    """Raises UnsupportedParameter for the first of these fields that asks for something: an empty
    list or map, a zero and `false` do not."""
    for name in names:
        if getattr(request, name):
            raise UnsupportedParameter(param=name)
