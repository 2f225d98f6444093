"""What the handlers need of an answer's format, whichever endpoint it is for."""

from collections.abc import Callable
from typing import Protocol

from sai_proxy.conversation.events import CallArguments, CallBegin, CallEnd, Completed, Event
from sai_proxy.openai_api.usage import UsageBody


class AnswerFormat(Protocol):
    """How one endpoint writes one answer. `index` counts the choices from 0."""

    @property
    def model(self) -> str: ...
    @property
    def stream(self) -> bool:
        """Whether the client wants events rather than one body."""
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
