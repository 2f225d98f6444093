"""What the handlers need of an answer's format, whichever endpoint it is for."""

from typing import Protocol

from sai_proxy.openai_api.usage import UsageBody


class AnswerFormat(Protocol):
    """How one endpoint writes one answer. `index` counts the choices from 0."""

    @property
    def model(self) -> str: ...
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
