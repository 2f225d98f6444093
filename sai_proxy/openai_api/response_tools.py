"""Tools of `POST /v1/responses`: flat ones, namespaces of them, and those that OpenAI itself would run.

The model knows a tool of a namespace by a qualified name, since inner names may repeat outer ones; the client gets
it back in two parts. Tools that a server of OpenAI's would run have nobody here to run them: they are left out,
unless a client insists on one.
"""

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import NamedTuple

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from sai_proxy.conversation.offer import Tool, Toolset
from sai_proxy.errors import ArrayTooLong, InvalidType, MissingParameter, UnsupportedValue
from sai_proxy.openai_api.decoding import decode_field
from sai_proxy.openai_api.raw import asks, check_kind, is_given
from sai_proxy.openai_api.tools import MAX_TOOLS, NO_TOOLS, NO_TOOLS_ES, WireTool, check_size, invalid, named, read_tool

MAX_SHOWN, MAX_SHOWN_CHARS = 10, 50
"""Of what is left out, in the log."""

_OURS = ("function", "custom")


class ResponseTool(WireTool):
    """tools: of a namespace."""

    tools: list[WireTool] | None = None


class ResponseChoice(msgspec.Struct):
    """`tool_choice` as an object: one tool, or those that are allowed."""

    type: str
    name: str | None = None
    namespace: str | None = None
    mode: str | None = None
    tools: "list[ResponseChoice] | None" = None


class ToolNames(NamedTuple):
    """How tools in namespaces are called. inner: namespace and name by the name that the model knows."""

    inner: Mapping[str, tuple[str, str]] = MappingProxyType({})

    def split(self, known: str) -> tuple[str | None, str]:
        """Namespace and name of a tool, by the name that the model knows."""
        return self.inner.get(known, (None, known))

    def known(self, namespace: str | None, name: str) -> str:
        """The name that the model knows."""
        if not namespace:
            return name
        given = (known for known, inner in self.inner.items() if inner == (namespace, name))
        return next(given, qualified(namespace, name))


class ResponseTools(NamedTuple):
    """toolset: what may be called, None for nothing. left_out: types of tools that nobody here runs."""

    toolset: Toolset | None
    names: ToolNames
    left_out: tuple[str, ...]


_tools_decoder = msgspec.json.Decoder(list[ResponseTool])
_choice_decoder = msgspec.json.Decoder(str | ResponseChoice)


def qualified(namespace: str, name: str) -> str:
    """The name of a namespace's tool."""
    return f"{namespace}.{name}"


def read_response_tools(tools: Raw, choice: Raw, *, parallel: bool | None) -> ResponseTools:
    """Raises InvalidRequest."""
    check_kind(tools, "tools", "array")
    check_kind(choice, "tool_choice", "string", "object")
    offered: list[Tool] = []
    inner: dict[str, tuple[str, str]] = {}
    left_out: list[str] = []
    wires = _decoded(tools)
    taken = {wire.name for wire in wires if wire.type in _OURS}
    for index, wire in enumerate(wires):
        path = f"tools[{index}]"
        if wire.type == "namespace":
            if not wire.name:
                raise MissingParameter(param=f"{path}.name")
            for at, member in enumerate(wire.tools or ()):
                if member.type not in _OURS:
                    left_out.append(member.type)
                    continue
                tool = read_tool(member, f"{path}.tools[{at}]")
                known = _free_name(qualified(wire.name, tool.name), taken)
                taken.add(known)
                inner[known] = wire.name, tool.name
                offered.append(replace(tool, name=known))
        elif wire.type in _OURS:
            offered.append(read_tool(wire, path))
        else:
            left_out.append(wire.type)
    if len(offered) > MAX_TOOLS:
        raise ArrayTooLong({"limit": MAX_TOOLS}, param="tools")
    names = ToolNames(inner)
    shown = tuple(name[:MAX_SHOWN_CHARS] for name in dict.fromkeys(left_out))[:MAX_SHOWN]
    return ResponseTools(_chosen(offered, choice, names, parallel=parallel is not False), names, shown)


def _free_name(name: str, taken: Collection[str | None]) -> str:
    """The name, or one like it that no other tool has."""
    numbered = (f"{name}_{number}" for number in range(2, MAX_TOOLS + 2))
    return name if name not in taken else next(each for each in numbered if each not in taken)


def _decoded(tools: Raw) -> list[ResponseTool]:
    if not asks(tools):
        return []
    check_size(tools, "tools")
    return decode_field(tools, _tools_decoder, "tools")


def _chosen(offered: list[Tool], raw: Raw, names: ToolNames, *, parallel: bool) -> Toolset | None:
    choice = decode_field(raw, _choice_decoder, "tool_choice") if is_given(raw) else "auto"
    if isinstance(choice, str):
        if choice not in ("none", "auto", "required"):
            raise UnsupportedValue({"allowed": "none, auto, required, or one tool"}, param="tool_choice")
        if choice == "none" or (not offered and choice == "auto"):
            return None
        if not offered:
            raise invalid("tool_choice", NO_TOOLS, NO_TOOLS_ES)
        return Toolset(tuple(offered), "required" if choice == "required" else "auto", parallel)
    if choice.type == "allowed_tools":
        wanted = [_wanted(tool, names) for tool in choice.tools or () if tool.type in _OURS]
        if not wanted:
            if choice.mode == "required":
                raise invalid("tool_choice", NO_TOOLS, NO_TOOLS_ES)
            return None
        allowed = named(offered, wanted, "tool_choice")
        return Toolset(allowed, "required" if choice.mode == "required" else "auto", parallel)
    if choice.type not in _OURS:
        raise UnsupportedValue({"allowed": "none, auto, required, or a function or custom tool"}, param="tool_choice")
    return Toolset(named(offered, [_wanted(choice, names)], "tool_choice"), "required", parallel)


def _wanted(choice: ResponseChoice, names: ToolNames) -> str:
    if choice.name is None:
        raise InvalidType({"expected": "a tool with its name", "found": "none"}, param="tool_choice.name")
    return names.known(choice.namespace, choice.name)
