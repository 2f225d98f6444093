"""What the handlers need of SAI, whichever of its endpoints answers."""

from typing import Protocol

from sai_proxy.conversation.chat import Question, Usage
from sai_proxy.credentials import Credential


class Reply(Protocol):
    """An answer that SAI has begun.

    model: the model that SAI says it used. usage may be complete only after the last piece.
    """

    @property
    def model(self) -> str | None: ...
    @property
    def usage(self) -> Usage: ...

    async def read(self) -> str | None:
        """The next piece of text, as soon as SAI sends it; None at the end.

        A cancelled call loses nothing: the next one goes on where it was.
        Raises ProxyError for an answer that is cut off, malformed, or too slow.
        """
        ...

    def close(self) -> None:
        """Give the connection back, or break it if the answer was not read to its end."""
        ...


class Attempts(Protocol):
    """Where an upstream counts its tries."""

    attempts: int
    retries: int


class Upstream(Protocol):
    """One endpoint of SAI."""

    async def ask(self, question: Question, credential: Credential, counter: Attempts) -> Reply:
        """Returns when SAI has accepted the question. Raises ProxyError if it did not."""
        ...
