"""What the relay needs of SAI, whichever of its endpoints answers."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from msgspec import Struct
from yarl import URL

from sai_proxy.conversation.chat import ChatRequest, Conversation, Route, Usage
from sai_proxy.conversation.events import Event
from sai_proxy.credentials import Credential

Hold = Callable[[int], None]
"""Accounts for so many bytes more, or fewer. Raises ServerBusy."""


class Question(Struct):
    """One conversation as SAI is asked it: encoded once, shared by all its choices and tries, and let go
    when SAI has answered.

    chars: length of all messages, in code points. custom_tools: names of offered tools that take free text.
    """

    payload: bytes
    route: Route
    chars: int
    custom_tools: frozenset[str] = frozenset()

    def release(self) -> None:
        """It will not be asked any more. Whoever still has it, such as an exception's frames, has little."""
        self.payload = b""


class Reply(Protocol):
    """An answer that SAI has begun.

    model: the model that SAI says it used. usage may be complete only after the last piece, and so is
    finish_reason: `length` or `content_filter` where SAI says that there would have been more, else None.
    """

    @property
    def model(self) -> str | None: ...
    @property
    def finish_reason(self) -> str | None: ...
    @property
    def usage(self) -> Usage: ...

    @property
    def at_hand(self) -> bool:
        """Whether the next `read` need not wait for SAI."""
        ...

    @property
    def complete(self) -> bool:
        """Whether SAI has said all, so that no `read` will wait for it."""
        ...

    def rest(self) -> list[Event] | None:
        """All that is left, if SAI has said all and it is short; None if it has to be read. Raises as `read` does."""
        ...

    async def read(self) -> Event | None:
        """The next piece of text, or the next step of a tool call, as soon as SAI sends it; None at the end.

        Raises ProxyError for an answer that is cut off, malformed, too long, or too slow.
        """
        ...

    def close(self) -> None:
        """Give the connection back, or break it if the answer was not read to its end."""
        ...


class AttemptSpan(Protocol):
    """headers: to be sent with the attempt. status: of its answer."""

    headers: dict[str, str]
    status: int | None


class AttemptTracing(Protocol):
    def attempt_span(self, method: str, url: URL) -> AbstractContextManager[AttemptSpan]:
        """A span around one attempt, from the question to the answer's head."""
        ...


class Attempts(Protocol):
    """Where an upstream counts its tries."""

    attempts: int
    retries: int


class Upstream(Protocol):
    @property
    def open_circuits(self) -> list[str]:
        """Targets that are left alone for the moment, since they fail."""
        ...

    def question(self, conversation: Conversation, chat: ChatRequest) -> Question:
        """The bytes that ask this, of the request whose conversation it is."""
        ...

    async def ask(
        self, question: Question, credential: Credential, counter: Attempts, deadline: float, hold: Hold
    ) -> Reply:
        """Ask with one credential. deadline: of the loop's clock, until when tries may begin. hold: told of what an
        answer keeps back.

        Raises ProxyError: a refusal, or what went wrong.
        """
        ...
