"""What every client library must be able to do with the proxy, whatever it looks like.

A client's file has a `Client`, which says how that library does each thing, and a subclass of
`ClientContract`, which makes the tests.
"""

import json
from typing import Any, NamedTuple, Protocol

import pytest

from tests.clients.background import Background
from tests.support import Proxy

TEXT = 'Hola, ¿cómo estás? "a\\b"\n\n```py\nprint("ñ")\n```\n漢字 😀👩‍👧 end'
KEY = "a-key-of-the-user"

OPENAI_ERRORS = {
    400: "BadRequestError",
    401: "AuthenticationError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    409: "ConflictError",
    429: "RateLimitError",
    502: "InternalServerError",
    504: "InternalServerError",
}
"""openai-python's exceptions, which openai-node and others share."""


class Reply(NamedTuple):
    """A whole answer. usage: prompt and completion tokens."""

    text: str
    usage: tuple[int, int]


class Failure(NamedTuple):
    """How a library told a failure. name: its exception's class."""

    name: str
    message: str


class Client(Protocol):
    """How one library does it. `base_url` ends in /v1. It must not retry by itself."""

    def __init__(self, base_url: str) -> None: ...
    def ask(self, text: str) -> Reply:
        """The answer, not streamed."""
        ...

    def stream(self, text: str) -> list[str]:
        """The pieces of a streamed answer."""
        ...

    def leave(self, text: str) -> None:
        """Stream, and leave after the first piece."""
        ...

    def failure(self, text: str, *, stream: bool) -> Failure:
        """How asking fails. Raises AssertionError if it does not."""
        ...

    def models(self) -> list[str] | None:
        """Ids of the models, None if the library cannot list them."""
        ...


def failure_of(call: Any) -> Failure:
    """What `call` raises."""
    try:
        result = call()
    except Exception as exc:
        return Failure(type(exc).__name__, str(exc))
    raise AssertionError(f"no failure but {result!r}")


class ClientContract:
    """Tests of one client. errors: the library's own exception for each of our statuses.
    broken: its exception for an answer that breaks off."""

    client: type[Client]
    errors: dict[int, str]
    broken: str
    message_shown = True

    @pytest.fixture
    def lib(self, served: Proxy) -> Client:
        return self.client(served.url + "/v1")

    def test_a_plain_answer_and_its_usage(self, lib: Client, world: Background) -> None:
        reply = lib.ask(f"[[answer={json.dumps(TEXT)}]][[usage=12,34]]")
        assert reply.text == TEXT
        assert reply.usage == (12, 34)
        assert world.sai.calls[-1].key == KEY

    def test_a_streamed_answer_is_the_exact_text_in_pieces(self, lib: Client) -> None:
        pieces = lib.stream(f"[[answer={json.dumps(TEXT)}]][[split=3]][[delay=0.002]]")
        assert "".join(pieces) == TEXT
        assert len(pieces) > 3

    def test_leaving_a_stream_ends_the_call_to_sai(self, lib: Client, world: Background) -> None:
        lib.leave("[[chars=40]][[split=1]][[delay=0.01]][[stall=30]]")
        call = world.sai.calls[-1]
        world.wait_until_ended(call)
        assert not call.completed

    @pytest.mark.parametrize("stream", [False, True])
    @pytest.mark.parametrize(
        ("directive", "status"),
        [("400", 400), ("401", 401), ("403", 403), ("404", 404), ("409", 409), ("500", 502), ("408", 504)],
    )
    def test_an_error_is_the_librarys_own_exception(
        self, lib: Client, directive: str, status: int, stream: bool
    ) -> None:
        failure = lib.failure(f"[[status={directive}]]", stream=stream)
        assert failure.name == self.errors[status]

    @pytest.mark.parametrize("stream", [False, True])
    def test_a_limit_is_the_librarys_own_exception(self, served: Proxy, world: Background, stream: bool) -> None:
        limited = world.start_proxy(SAI_COOKIE="")
        failure = self.client(limited.url + "/v1").failure("[[status=429]]", stream=stream)
        assert failure.name == self.errors[429]
        assert "usage limit" in failure.message or not self.message_shown

    def test_an_answer_that_breaks_off_raises(self, lib: Client) -> None:
        failure = lib.failure("[[chars=40]][[split=1]][[delay=0.005]][[reset=middle]]", stream=True)
        assert failure.name == self.broken
        assert "cut off" in failure.message or not self.message_shown

    def test_the_models_are_listed(self, lib: Client) -> None:
        models = lib.models()
        assert models is None or "sai-model" in models
