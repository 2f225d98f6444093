"""What a client offers and demands beside its messages: tools, and the form of the answer."""

from typing import Any, Literal

from msgspec import Struct

from sai_proxy.conversation.events import CallKind


class Tool(Struct, frozen=True):
    """One tool that the model may call.

    parameters: JSON Schema of a function's arguments, None for any object; of a custom tool, which takes free
        text, always None.
    strict: whether arguments have to fit the schema.
    grammar: what a custom tool's text has to look like, in words for the model.
    """

    name: str
    description: str = ""
    parameters: dict[str, Any] | None = None
    kind: CallKind = "function"
    strict: bool = False
    grammar: str = ""


class Toolset(Struct, frozen=True, dict=True):
    """The tools of a request, or of several that are alike, and how they bind. Who makes something of it that takes
    long keeps it in its `__dict__`.

    offered: those that may be called. demand: `required` if one of them must be. parallel: whether several at once.
    deprecated: whether they came as `functions`, and calls are answered in that form.
    """

    offered: tuple[Tool, ...]
    demand: Literal["auto", "required"] = "auto"
    parallel: bool = True
    deprecated: bool = False

    def tool(self, name: str) -> Tool | None:
        """The offered tool of this name."""
        return next((tool for tool in self.offered if tool.name == name), None)


class OutputFormat(Struct, frozen=True):
    """JSON in place of free text. schema: None for any object. strict: whether it has to fit."""

    schema: dict[str, Any] | None = None
    strict: bool = False
