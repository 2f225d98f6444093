"""What tells one text endpoint from another: how a body becomes a question, and an answer bytes."""

from collections.abc import Callable, Mapping
from typing import Generic, NamedTuple, Protocol, TypeVar

import msgspec
from msgspec import field

from sai_proxy.conversation.chat import ChatRequest, Route
from sai_proxy.openai_api.answer_format import AnswerFormat
from sai_proxy.openai_api.chat_answer import ChatAnswer
from sai_proxy.openai_api.chat_request import decode_chat_request, read_chat_request
from sai_proxy.openai_api.completion_answer import TextAnswer
from sai_proxy.openai_api.completion_request import decode_completion_request, read_completion_request
from sai_proxy.openai_api.fields import StreamOptions, TextRequest
from sai_proxy.openai_api.kept_responses import NOTHING, Recalled, References
from sai_proxy.openai_api.raw import Anything, absent, kind_of

Models = Mapping[str, Route]
Stamp = Callable[[], tuple[str, int]]
"""Makes what tells an answer from all others: random hex digits, and the time in Unix seconds."""

Wire = TypeVar("Wire", bound=TextRequest)
Body = bytes | bytearray

_MAX_MODEL_BYTES = 1_000


class ParsedBody(NamedTuple):
    """What a body says: what is asked, and how to answer it."""

    chat_request: ChatRequest
    answer: AnswerFormat


class Endpoint(Protocol):
    """One text endpoint. path: without `/v1`. operation: the name that OpenTelemetry has for what it does."""

    @property
    def path(self) -> str: ...
    @property
    def operation(self) -> str: ...

    @property
    def keeps(self) -> bool:
        """Whether later requests may refer to its answers."""
        ...

    def references(self, body: Body) -> References:
        """What of the answers that are kept a body refers to."""
        ...

    def parse(self, body: Body, recalled: Recalled = NOTHING) -> ParsedBody:
        """recalled: what the body refers to. Raises ProxyError, naming what is wrong with the body."""
        ...

    def likely_answer(self, body: Body) -> AnswerFormat:
        """The format that a body asks for which could not be read, as far as can be seen, for its failure."""
        ...


class Glimpse(msgspec.Struct):
    """The little that must be known of a body to tell its failure."""

    model: Anything = field(default_factory=absent)
    stream: Anything = field(default_factory=absent)

    @property
    def streams(self) -> bool:
        return bytes(self.stream) == b"true"

    def model_or(self, default: str) -> str:
        """The model's name, if it has a readable one of a sensible length."""
        if kind_of(self.model) != "string" or len(self.model) > _MAX_MODEL_BYTES:
            return default
        try:
            return msgspec.json.decode(self.model, type=str)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return default


_glimpser = msgspec.json.Decoder(Glimpse)


def glimpse(body: Body) -> Glimpse:
    """What can be seen of a body that may be malformed."""
    try:
        return _glimpser.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Glimpse()


class MakeAnswer(Protocol):
    def __call__(
        self, id: str, created: int, model: str, *, stream: bool, include_usage: bool, functions: bool
    ) -> AnswerFormat: ...


class ChunkEndpoint(Generic[Wire]):
    """An endpoint whose answers are told in chunks of one shape."""

    keeps = False

    def __init__(
        self,
        models: Models,
        stamp: Stamp,
        *,
        decode: Callable[[Body], Wire],
        read: Callable[[Wire, Models], ChatRequest],
        answer: MakeAnswer,
        path: str,
        id_prefix: str,
        operation: str,
    ) -> None:
        self.path = path
        self.operation = operation
        self._models = models
        self._stamp = stamp
        self._decode = decode
        self._read = read
        self._make_answer = answer
        self._id_prefix = id_prefix

    def references(self, body: Body) -> References:  # noqa: ARG002
        return References()

    def parse(self, body: Body, recalled: Recalled = NOTHING) -> ParsedBody:  # noqa: ARG002
        wire = self._decode(body)
        chat_request = self._read(wire, self._models)
        functions = chat_request.toolset is not None and chat_request.toolset.deprecated
        answer = self._answer(wire.model, bool(wire.stream), wire.stream_options, functions=functions)
        return ParsedBody(chat_request, answer)

    def likely_answer(self, body: Body) -> AnswerFormat:
        seen = glimpse(body)
        return self._answer(seen.model_or(next(iter(self._models))), seen.streams, None)

    def _answer(
        self, model: str, stream: bool, options: StreamOptions | None, *, functions: bool = False
    ) -> AnswerFormat:
        digits, created = self._stamp()
        return self._make_answer(
            self._id_prefix + digits,
            created,
            model,
            stream=stream,
            include_usage=bool(options and options.include_usage),
            functions=functions,
        )


def chat_completions(models: Models, stamp: Stamp) -> Endpoint:
    """`POST /v1/chat/completions`."""
    return ChunkEndpoint(
        models,
        stamp,
        decode=decode_chat_request,
        read=read_chat_request,
        answer=ChatAnswer,
        path="/chat/completions",
        id_prefix="chatcmpl-",
        operation="chat",
    )


def completions(models: Models, stamp: Stamp) -> Endpoint:
    """`POST /v1/completions`."""
    return ChunkEndpoint(
        models,
        stamp,
        decode=decode_completion_request,
        read=read_completion_request,
        answer=TextAnswer,
        path="/completions",
        id_prefix="cmpl-",
        operation="text_completion",
    )
