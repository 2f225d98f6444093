"""Tools of `POST /v1/responses`: flat ones, namespaces of them, and those that OpenAI itself would run.

The model knows a tool of a namespace by a qualified name, since inner names may repeat outer ones; the client gets
it back in two parts. Tools that a server of OpenAI's would run have nobody here to run them: they are left out,
unless a client insists on one.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from sai_proxy.conversation.offer import Tool, Toolset
from sai_proxy.errors import ArrayTooLong, InvalidType, MissingParameter, UnsupportedValue
from sai_proxy.openai_api.decoding import decode_field
from sai_proxy.openai_api.raw import asks, check_kind, is_given
from sai_proxy.openai_api.remembered import Remembered
from sai_proxy.openai_api.tools import MAX_TOOLS, NO_TOOLS, NO_TOOLS_ES, WireTool, check_size, invalid, named, read_tool

MAX_SHOWN, MAX_SHOWN_CHARS = 10, 50
"""Of what is left out, in the log."""

_OURS = ("function", "custom")


class ToolKind(msgspec.Struct):
    """type: all that is read of a tool that nobody here runs, since the rest of it has any form."""

    type: str = "function"


class Namespace(msgspec.Struct):
    name: str | None = None
    tools: list[Raw] | None = None


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


class _Given(NamedTuple):
    """A tool as it was sent. wire: None unless a client runs it. namespace: of its name, None outside of one."""

    path: str
    kind: str
    wire: WireTool | None
    namespace: str | None


_tools_decoder = msgspec.json.Decoder(list[Raw])
_kind_decoder = msgspec.json.Decoder(ToolKind)
_tool_decoder = msgspec.json.Decoder(WireTool)
_namespace_decoder = msgspec.json.Decoder(Namespace)
_choice_decoder = msgspec.json.Decoder(str | ResponseChoice)
_remembered: Remembered[ResponseTools] = Remembered(max_bytes=256 * 1024, max_one=64 * 1024)


def qualified(namespace: str, name: str) -> str:
    """The name of a namespace's tool."""
    return f"{namespace}.{name}"


def read_response_tools(tools: Raw, choice: Raw, *, parallel: bool | None) -> ResponseTools:
    """Raises InvalidRequest."""
    made_of = bytes(tools), bytes(choice), parallel
    remembered = _remembered.get(made_of)
    if remembered is None:
        remembered = _read(tools, choice, parallel=parallel)
        _remembered.put(made_of, len(tools) + len(choice), remembered)
    return remembered


def _read(tools: Raw, choice: Raw, *, parallel: bool | None) -> ResponseTools:
    check_kind(tools, "tools", "array")
    check_kind(choice, "tool_choice", "string", "object")
    offered: list[Tool] = []
    inner: dict[str, tuple[str, str]] = {}
    left_out: list[str] = []
    given = _given(tools)
    taken = {each.wire.name for each in given if each.wire is not None and each.namespace is None}
    for path, kind, wire, namespace in given:
        if wire is None:
            left_out.append(kind)
            continue
        tool = read_tool(wire, path)
        if namespace is not None:
            known = _free_name(qualified(namespace, tool.name), taken)
            taken.add(known)
            inner[known] = namespace, tool.name
            tool = replace(tool, name=known)
        offered.append(tool)
    if len(offered) > MAX_TOOLS:
        raise ArrayTooLong({"limit": MAX_TOOLS}, param="tools")
    names = ToolNames(inner)
    shown = tuple(name[:MAX_SHOWN_CHARS] for name in dict.fromkeys(left_out))[:MAX_SHOWN]
    return ResponseTools(_chosen(offered, choice, names, parallel=parallel is not False), names, shown)


def _free_name(name: str, taken: Collection[str | None]) -> str:
    """The name, or one like it that no other tool has."""
    numbered = (f"{name}_{number}" for number in range(2, MAX_TOOLS + 2))
    return name if name not in taken else next(each for each in numbered if each not in taken)


def _given(tools: Raw) -> list[_Given]:
    """The tools of a request, those of its namespaces among them. Raises InvalidRequest."""
    if not asks(tools):
        return []
    check_size(tools, "tools")
    given: list[_Given] = []
    wires = decode_field(tools, _tools_decoder, "tools")
    for path, raw, kind in _kinds(wires, "tools"):
        if kind != "namespace":
            given.append(_Given(path, kind, _wire(raw, path, kind), None))
            continue
        namespace = decode_field(raw, _namespace_decoder, path)
        if not namespace.name:
            raise MissingParameter(param=f"{path}.name")
        for place, member, its_kind in _kinds(namespace.tools or (), f"{path}.tools"):
            given.append(_Given(place, its_kind, _wire(member, place, its_kind), namespace.name))
    return given


def _kinds(tools: Sequence[Raw], param: str) -> Iterator[tuple[str, Raw, str]]:
    """Place, source and type of each of these tools."""
    for index, raw in enumerate(tools):
        path = f"{param}[{index}]"
        yield path, raw, decode_field(raw, _kind_decoder, path).type


def _wire(raw: Raw, path: str, kind: str) -> WireTool | None:
    return decode_field(raw, _tool_decoder, path) if kind in _OURS else None


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
