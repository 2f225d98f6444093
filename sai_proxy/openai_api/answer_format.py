"""What the handlers need of an answer's format, whichever endpoint it is for."""

from typing import Protocol

from sai_proxy.openai_api.usage import UsageBody


class AnswerFormat(Protocol):
    """How one endpoint writes one answer. `index` counts the choices from 0."""

    @property
    def model(self) -> str: ...
    @property
    def stream(self) -> bool:
        """Whether the client wants events rather than one body."""
        ...

    def whole(self, choices: list[tuple[str, str]], usage: UsageBody) -> bytes:
        """The body of an answer that is not streamed, from a text and a finish reason a choice."""
        ...

    def opening(self, index: int) -> bytes:
        """What stands before the first text of a choice."""
        ...

    def delta(self, index: int, text: str) -> bytes:
        """One piece of a choice's text."""
        ...

    def finish(self, index: int, reason: str) -> bytes:
        """The end of a choice."""
        ...

    def closing(self, usage: UsageBody) -> bytes:
        """The end of an answer that is complete."""
        ...


def deltas(answer: AnswerFormat, index: int, text: str, max_chars: int) -> bytes:
    """`text` as one delta, or as several of at most `max_chars` code points."""
    if len(text) <= max_chars:
        return answer.delta(index, text)
    return b"".join(answer.delta(index, text[at : at + max_chars]) for at in range(0, len(text), max_chars))
