"""Types and rules of request fields that both text endpoints have."""

from collections.abc import Iterable, Mapping
from operator import attrgetter
from typing import Annotated, Protocol

import msgspec
from msgspec import Meta, Raw, Struct

from sai_proxy.conversation.chat import Route
from sai_proxy.conversation.tokens import CHARS_PER_TOKEN
from sai_proxy.credentials import MAX_COOKIE_CHARS
from sai_proxy.errors import InvalidValue, ModelNotFound, UnsupportedParameter, UnsupportedValue
from sai_proxy.openai_api.decoding import decode_field
from sai_proxy.openai_api.raw import asks, check_kind, is_given

MAX_N = 8
"""Choices of one conversation: each is a call to SAI of its own."""

MAX_STOPS = 16
"""OpenAI takes 4; Continue sends more, as it caps them for OpenAI's own host only."""


MAX_STOP_CHARS = 1_000

_STOPS_ALLOWED = f"1..{MAX_STOPS}, 1..{MAX_STOP_CHARS} characters each"
_MAX_BYTES_A_CHAR = 12
"""As JSON may write one: two escapes of a surrogate pair."""

_stop_decoder: "msgspec.json.Decoder[str | list[str]]" = msgspec.json.Decoder(str | list[str])


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


def read_stops(raw: Raw) -> tuple[str, ...]:
    """Stop sequences. Raises InvalidRequest for too many, an empty or a long one, before they are decoded."""
    check_kind(raw, "stop", "string", "array")
    if not is_given(raw):
        return ()
    if len(raw) > MAX_STOPS * MAX_STOP_CHARS * _MAX_BYTES_A_CHAR:
        raise UnsupportedValue({"allowed": _STOPS_ALLOWED}, param="stop")
    stop = decode_field(raw, _stop_decoder, "stop")
    stops = (stop,) if isinstance(stop, str) else tuple(stop)
    if len(stops) > MAX_STOPS or any(len(stop) > MAX_STOP_CHARS for stop in stops):
        raise UnsupportedValue({"allowed": _STOPS_ALLOWED}, param="stop")
    if "" in stops:
        raise InvalidValue({"problem_en": "a stop string is empty", "problem_es": "hay una cadena vacía"}, param="stop")
    return stops


def read_max_chars(max_tokens: int | None, route: Route) -> int | None:
    """The length, in code points, that stands for a number of tokens; None if the road counts them itself."""
    return None if max_tokens is None or "max_tokens" in route.can.sampling else max_tokens * CHARS_PER_TOKEN


SAMPLING = ("temperature", "top_p", "frequency_penalty", "presence_penalty", "seed")


def read_sampling(wire: object, max_tokens: int | None, route: Route) -> dict[str, float]:
    """What of the client's wishes for the model's writing the road takes, by OpenAI's names."""
    wished = {name: getattr(wire, name, None) for name in SAMPLING}
    wished["max_tokens"] = max_tokens
    return {name: value for name, value in wished.items() if value is not None and name in route.can.sampling}


def read_ignored(wire: object, ignored: "Rarely", route: Route) -> tuple[str, ...]:
    """Names of fields that were sent and that nobody has a place for."""
    sent = ignored.sent_in(wire)
    return tuple(name for name in sent if name not in route.can.sampling and is_sent(wire, name)) if sent else ()


MAX_KEY_LENGTH = 2 * MAX_COOKIE_CHARS
"""What is looked at of a key in the body: as much as a header could hold."""


class _OnlyKey(Struct):
    litellm_params: LiteLlmParams | None = None


_key_decoder = msgspec.json.Decoder(_OnlyKey)


def user_key_in(body: bytes | bytearray) -> str | None:
    """The user's own SAI key, if the body holds one. Nothing else of it is decoded: at this point nobody
    knows yet who sends it. A body that is malformed holds none; its own decoding says what is wrong."""
    if b"user_api_key" not in body:
        return None
    try:
        parameters = _key_decoder.decode(body).litellm_params
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    key = parameters.metadata.user_api_key if parameters and parameters.metadata else None
    return key[:MAX_KEY_LENGTH] if key else key  # longer than any that is accepted, and refused as such


class Rarely:
    """Fields that few requests have, looked at all at once: a look at each would be a third of reading a request."""

    def __init__(self, request: object, names: Iterable[str]) -> None:
        """request: one without any of them."""
        self._names = tuple(names)
        self._values = attrgetter(*self._names)
        self._absent = self._values(request)

    def sent_in(self, request: object) -> list[str]:
        """Those that are there; null counts as absent, where it is decoded."""
        values = self._values(request)
        if values == self._absent:
            return []
        seen = zip(self._names, values, self._absent, strict=True)
        return [name for name, value, absent in seen if value is not absent and value != absent]


def is_sent(request: object, name: str) -> bool:
    """Whether a field is there and not null."""
    value = getattr(request, name)
    return is_given(value) if isinstance(value, Raw) else value is not None


def refuse_if_asked(request: object, names: tuple[str, ...]) -> None:
    """Raises UnsupportedParameter for the first of these fields that asks for something: an empty
    list or map, a zero and `false` do not."""
    for name in names:
        value = getattr(request, name)
        if asks(value) if isinstance(value, Raw) else value:
            raise UnsupportedParameter(param=name)
