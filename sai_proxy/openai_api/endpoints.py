"""What tells one text endpoint from another: how a body becomes a question, and an answer bytes."""

from collections.abc import Callable, Mapping
from typing import Generic, NamedTuple, Protocol, TypeVar

import msgspec
from msgspec import Raw, field

from sai_proxy.conversation.chat import ChatRequest, Route
from sai_proxy.openai_api.answer_format import AnswerFormat
from sai_proxy.openai_api.chat_answer import ChatAnswer
from sai_proxy.openai_api.chat_request import ChatCompletionRequest, decode_chat_request, read_chat_request
from sai_proxy.openai_api.completion_answer import TextAnswer
from sai_proxy.openai_api.completion_request import (
    CompletionRequest,
    decode_completion_request,
    read_completion_request,
)
from sai_proxy.openai_api.fields import StreamOptions, TextRequest
from sai_proxy.openai_api.raw import Anything, kind_of

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


class MakeAnswer(Protocol):
    def __call__(
        self, id: str, created: int, model: str, *, stream: bool, include_usage: bool, functions: bool
    ) -> AnswerFormat: ...


class Glimpse(msgspec.Struct):
    """The little that must be known of a body to tell its failure."""

    model: Anything = field(default_factory=Raw)
    stream: Anything = field(default_factory=Raw)


_glimpser = msgspec.json.Decoder(Glimpse)


class Endpoint(Generic[Wire]):
    """One text endpoint: its request's wire type, and its answer's format. path: without `/v1`.
    operation: the name that OpenTelemetry has for what it does."""

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

    def parse(self, body: Body) -> ParsedBody:
        """Raises ProxyError, naming what is wrong with the body."""
        wire = self._decode(body)
        chat_request = self._read(wire, self._models)
        functions = chat_request.toolset is not None and chat_request.toolset.deprecated
        answer = self._answer(wire.model, wire.stream, wire.stream_options, functions=functions)
        return ParsedBody(chat_request, answer)

    def likely_answer(self, body: Body) -> AnswerFormat:
        """The format that a body asks for which could not be read, as far as can be seen, should its
        failure have to be told as a message."""
        try:
            glimpse = _glimpser.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            glimpse = Glimpse()
        named = kind_of(glimpse.model) == "string" and len(glimpse.model) <= _MAX_MODEL_BYTES
        model = msgspec.json.decode(glimpse.model, type=str) if named else next(iter(self._models))
        return self._answer(model, bytes(glimpse.stream) == b"true", None)

    def _answer(
        self, model: str, stream: bool | None, options: StreamOptions | None, *, functions: bool = False
    ) -> AnswerFormat:
        digits, created = self._stamp()
        return self._make_answer(
            self._id_prefix + digits,
            created,
            model,
            stream=bool(stream),
            include_usage=bool(options and options.include_usage),
            functions=functions,
        )


def chat_completions(models: Models, stamp: Stamp) -> Endpoint[ChatCompletionRequest]:
    """`POST /v1/chat/completions`."""
    return Endpoint(
        models,
        stamp,
        decode=decode_chat_request,
        read=read_chat_request,
        answer=ChatAnswer,
        path="/chat/completions",
        id_prefix="chatcmpl-",
        operation="chat",
    )


def completions(models: Models, stamp: Stamp) -> Endpoint[CompletionRequest]:
    """`POST /v1/completions`."""
    return Endpoint(
        models,
        stamp,
        decode=decode_completion_request,
        read=read_completion_request,
        answer=TextAnswer,
        path="/completions",
        id_prefix="cmpl-",
        operation="text_completion",
    )
