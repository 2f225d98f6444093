"""What tells one of SAI's endpoints from another: how it is asked, and how its answers are read. Pure."""

from collections.abc import Collection, Mapping
from typing import Protocol

from sai_proxy.conversation.chat import ChatRequest, Conversation, Route
from sai_proxy.sai_api.readers import AnswerReader


class Road(Protocol):
    """accept: of the request's header. form: of its entries in SAI_MODELS, for people."""

    @property
    def accept(self) -> str: ...
    @property
    def form(self) -> str: ...

    def route(self, target: str, override: str | None) -> Route | None:
        """The route to a target, with what it can; None if either of these is malformed."""
        ...

    def url(self, base_url: str, route: Route) -> str:
        """Where the question goes."""
        ...

    def payload(self, conversation: Conversation, chat: ChatRequest, now_ms: int) -> bytes:
        """The body that asks one conversation of a request. now_ms: Unix milliseconds."""
        ...

    def reader(self, headers: Mapping[str, str], custom_tools: Collection[str]) -> AnswerReader:
        """Of an answer with these headers. custom_tools: names of tools that take free text."""
        ...
