"""What an answer consists of while it comes, whoever makes it: a road with tools of its own, or the emulation
over one that only writes text. Handlers, answer formats, limits and accounts work on these alone.

An answer is a row of pieces of text and of tool calls. A call is begun, its arguments follow in fragments, and
it is ended only when it is whole. Text comes before calls.
"""

from collections.abc import Iterator
from typing import Literal

from msgspec import Struct

CallKind = Literal["function", "custom"]


class CallBegin(Struct, frozen=True):
    """A tool call begins. id: unlike any other in the conversation. kind: `custom` calls take free text."""

    id: str
    name: str
    kind: CallKind = "function"


class CallArguments(Struct, frozen=True):
    """More of the current call's arguments: of JSON text, or of free text for a custom tool."""

    text: str


class CallEnd(Struct, frozen=True):
    """The current call is whole."""


Event = str | CallBegin | CallArguments | CallEnd
"""A plain string is a piece of the answer's text."""


def in_parts(event: Event, chars: int) -> Iterator[Event]:
    """The same as one or several events, of at most so many code points each."""
    if isinstance(event, str):
        yield from (event[at : at + chars] for at in range(0, len(event), chars))
    elif isinstance(event, CallArguments) and event.text:
        yield from (CallArguments(event.text[at : at + chars]) for at in range(0, len(event.text), chars))
    else:
        yield event


class ToolCall(Struct, frozen=True):
    """A whole call. arguments: JSON text, or free text for a custom tool."""

    id: str
    name: str
    arguments: str
    kind: CallKind = "function"

    def events(self) -> list[Event]:
        """The events that make it."""
        return [CallBegin(self.id, self.name, self.kind), CallArguments(self.arguments), CallEnd()]


class Completed(Struct):
    """One choice when its answer is complete."""

    text: str
    finish_reason: str
    calls: tuple[ToolCall, ...] = ()


class Gathering:
    """Events of one choice, gathered into a whole."""

    __slots__ = ("_arguments", "_begun", "_calls", "_texts")

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._calls: list[ToolCall] = []
        self._begun: CallBegin | None = None
        self._arguments: list[str] = []

    def add(self, event: Event) -> None:
        """The next event."""
        match event:
            case str():
                self._texts.append(event)
            case CallBegin():
                self._begun, self._arguments = event, []
            case CallArguments():
                self._arguments.append(event.text)
            case CallEnd():
                assert self._begun is not None
                begun, self._begun = self._begun, None
                self._calls.append(ToolCall(begun.id, begun.name, "".join(self._arguments), begun.kind))

    def complete(self, finish_reason: str) -> Completed:
        """All of it. Nothing is kept."""
        completed = Completed("".join(self._texts), finish_reason, tuple(self._calls))
        self._texts, self._calls = [], []
        return completed
