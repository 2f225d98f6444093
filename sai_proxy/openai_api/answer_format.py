"""What the handlers need of an answer's format, whichever endpoint it is for."""

from collections.abc import Callable
from typing import Protocol

from sai_proxy.conversation.events import CallArguments, CallBegin, CallEnd, Completed, Event
from sai_proxy.errors.table import ErrorForm
from sai_proxy.openai_api.error_body import error_body
from sai_proxy.openai_api.event_stream import KEEP_ALIVE, event
from sai_proxy.openai_api.kept_responses import Kept
from sai_proxy.openai_api.usage import UsageBody


class AnswerFormat(Protocol):
    """How one endpoint writes one answer. `index` counts the choices from 0."""

    @property
    def model(self) -> str: ...
    @property
    def stream(self) -> bool:
        """Whether the client wants events rather than one body."""
        ...

    @property
    def tells_failures(self) -> bool:
        """Whether a failure may be told as an assistant's message, should the operator want that."""
        ...

    @property
    def repeats(self) -> bool:
        """Whether the end of a stream repeats all of it, which therefore stays until then."""
        ...

    @property
    def held_bytes(self) -> int:
        """What it holds of the request, until its end."""
        ...

    def heartbeat(self) -> bytes:
        """What may be written while there is nothing to say."""
        ...

    def failure(self, form: ErrorForm) -> bytes:
        """The end of a stream that failed."""
        ...

    def kept(self) -> Kept | None:
        """What later requests may refer to, once the answer is complete; None for nothing."""
        ...

    def refusal(self, form: ErrorForm) -> ErrorForm:
        """A failure before anything has gone out, in the way that the endpoint's clients understand best."""
        ...

    def whole(self, choices: list[Completed], usage: UsageBody) -> bytes:
        """The body of an answer that is not streamed."""
        ...

    def opening(self, index: int) -> bytes:
        """What stands before the first text of a choice."""
        ...

    def delta(self, index: int, text: str) -> bytes:
        """One piece of a choice's text."""
        ...

    def begin_call(self, index: int, call: CallBegin) -> bytes:
        """The beginning of a tool call, after all text of its choice."""
        ...

    def arguments(self, index: int, text: str) -> bytes:
        """More of the arguments of the choice's last call."""
        ...

    def end_call(self, index: int) -> bytes:
        """The end of the choice's last call, which is whole."""
        ...

    def finish(self, index: int, reason: str) -> bytes:
        """The end of a choice."""
        ...

    def closing(self, usage: UsageBody) -> bytes:
        """The end of an answer that is complete."""
        ...


class Chunks:
    """What answers have in common that are told in chunks of one shape, and end with `[DONE]`.

    created: Unix seconds. include_usage: a usage chunk before `[DONE]`, and `usage: null` on all
    others, as the API reference says of `stream_options.include_usage`. functions: whether calls have the form of
    the deprecated `functions`.
    """

    tells_failures = True
    repeats = False
    held_bytes = 0

    def __init__(
        self,
        id: str,
        created: int,
        model: str,
        *,
        stream: bool = False,
        include_usage: bool = False,
        functions: bool = False,
    ) -> None:
        self.id = id
        self.created = created
        self.model = model
        self.stream = stream
        self.include_usage = include_usage
        self.functions = functions

    def heartbeat(self) -> bytes:
        return KEEP_ALIVE

    def failure(self, form: ErrorForm) -> bytes:
        return event(error_body(form))

    def refusal(self, form: ErrorForm) -> ErrorForm:
        return form

    def kept(self) -> None:
        """Nothing: clients send their whole conversation each time."""


def written(answer: AnswerFormat, index: int, event: Event, max_chars: int) -> bytes:
    """One event as bytes: text, and arguments, in deltas of at most `max_chars` code points."""
    match event:
        case str():
            return _in_pieces(answer.delta, index, event, max_chars)
        case CallBegin():
            return answer.begin_call(index, event)
        case CallArguments():
            return _in_pieces(answer.arguments, index, event.text, max_chars)
        case CallEnd():
            return answer.end_call(index)


def _in_pieces(write: Callable[[int, str], bytes], index: int, text: str, max_chars: int) -> bytes:
    if len(text) <= max_chars:
        return write(index, text)
    return b"".join(write(index, text[at : at + max_chars]) for at in range(0, len(text), max_chars))
