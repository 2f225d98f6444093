"""A text that may be a tool call, once it is there to its end: which call it is, in whatever form a model has
written it, or that it is none. Pure.

Forms: as SAI's callers have seen them (`tool_calls` wrappers, flat and nested entries, `tool_name`, `action`,
`cmd`), and as small models write them. Only offered tools count. Arguments that were there never become `{}`,
and what is broken is mended only if it is there to its end.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import json_repair

from sai_proxy.conversation.events import ToolCall
from sai_proxy.conversation.offer import Tool, Toolset

NAME_KEYS = ("name", "tool_name", "tool", "action", "recipient_name")
ARGUMENT_KEYS = ("arguments", "parameters", "args", "input", "arguments_json")
WRAPPER_KEYS = ("tool_calls", "tool_call", "function_call", "calls", "tool_uses")
TYPES = ("function", "function_call", "tool_call", "tool_use", "custom", "custom_tool_call")
COMMAND_KEYS = ("cmd", "command")
OTHER_KEYS = ("type", "id", "call_id", "index", "function", "custom", "namespace", "thought", "reasoning")

MAX_REPAIRED_CHARS = 48 * 1024
"""The library's repair takes more than linear time; longer texts are read as they are, or stay text."""

_MAX_REPAIRED_BRACKETS = 2_000
_INVALID_ESCAPE = re.compile(r'(\\\\)|\\(?!["\\/bfnrt]|u[0-9a-fA-F]{4})')
_ARGUMENTS_BEGIN = re.compile(rf'"(?:{"|".join(ARGUMENT_KEYS)})"\s*:\s*')
_END = re.compile(r'["\d}\]eln]\s*([}\]\s]*)$')

NewId = Callable[[], str]


class Reading(NamedTuple):
    """What a candidate turned out to be. form: a word for metrics. repaired: whether its JSON was mended."""

    calls: tuple[ToolCall, ...]
    form: str
    repaired: bool = False


def read_calls(text: str, toolset: Toolset, new_id: NewId, *, closed: bool = False) -> Reading | None:
    """The calls in `text`: one or several JSON values with nothing but blanks or commas between them. None
    if it is anything else. closed: whether a fence or a tag was closed behind it, so that it is no beginning."""
    decoded = _decode_all(text)
    repaired = False
    if decoded is None:
        decoded = _repaired(text, closed=closed)
        repaired = True
    if decoded is None:
        return None
    reader = _Reader(toolset, new_id)
    calls: list[ToolCall] = []
    for value in decoded:
        found = reader.calls_of(value)
        if found is None:
            return None
        calls += found
    if not calls:
        return None
    return Reading(tuple(calls), reader.form, repaired)


def _decode_all(text: str) -> list[Any] | None:
    """All JSON values of `text`. Raw control characters in strings are taken as they are meant, and so is a
    backslash that escapes nothing."""
    for attempt in (text, _INVALID_ESCAPE.sub(lambda match: match[1] or r"\\", text)):
        try:
            return list(_values(attempt))
        except (ValueError, RecursionError):
            continue
    return None


def _values(text: str) -> Iterator[Any]:
    at, end = 0, len(text)
    while at < end:
        if text[at] in " \t\r\n,;":
            at += 1
            continue
        value, at = _DECODER.raw_decode(text, at)
        yield value


_DECODER = json.JSONDecoder(strict=False)


def _repaired(text: str, *, closed: bool = False) -> list[Any] | None:
    """The one value in `text`, its quoting and brackets mended."""
    brackets = text.count("{") + text.count("[")
    if len(text) > MAX_REPAIRED_CHARS or brackets > _MAX_REPAIRED_BRACKETS or is_cut(text, closed=closed):
        return None
    try:
        value = json_repair.loads(text, skip_json_loads=True)
    except (ValueError, RecursionError):
        return None
    return [value] if isinstance(value, dict) else value if isinstance(value, list) and value else None


def is_cut(text: str, *, closed: bool = False) -> bool:
    """Whether JSON is not there to its end: nothing is wrong with it but that it stops, or fewer brackets
    close at its end than are open where the arguments begin. What a repair adds is punctuation, never content."""
    text = text.rstrip()
    try:
        _DECODER.raw_decode(text, len(text) - len(text.lstrip()))
    except json.JSONDecodeError as exc:
        if exc.msg.startswith("Unterminated string") or (exc.pos >= len(text) and not closed):
            return True
    except RecursionError:
        return True
    else:
        return False
    begin, end = _ARGUMENTS_BEGIN.search(text), _END.search(text)
    opened = 0 if begin is None else _depth(text[: begin.end()]) + text.startswith(("{", "["), begin.end())
    if closed and end is not None:
        return False
    return end is None or len(re.findall(r"[}\]]", end[0])) < max(opened, 1)


def _depth(prefix: str) -> int:
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', "", prefix)
    return bare.count("{") + bare.count("[") - bare.count("}") - bare.count("]")


class _Reader:
    """form: how the last call was written."""

    def __init__(self, toolset: Toolset, new_id: NewId) -> None:
        self.form = "wrapper"
        self._toolset = toolset
        self._new_id = new_id

    def calls_of(self, value: Any) -> list[ToolCall] | None:
        """The calls that `value` consists of, None if it is anything else."""
        if isinstance(value, list):
            found = [self.calls_of(item) for item in value]
            return None if any(calls is None for calls in found) else [call for calls in found for call in calls or ()]
        if not isinstance(value, dict):
            return None
        for key in WRAPPER_KEYS:
            if key in value and isinstance(value[key], list | dict):
                return self.calls_of(value[key])
        call = self._call(value)
        return None if call is None else [call]

    def _call(self, entry: dict[str, Any]) -> ToolCall | None:
        inner = entry.get("function", entry.get("custom"))
        if isinstance(inner, dict):
            self.form = "nested"
            return self._call({**inner, "id": entry.get("id")})
        name = next((entry[key] for key in NAME_KEYS if isinstance(entry.get(key), str)), None)
        if name is None and isinstance(inner, str):
            name = inner
        if name is None:
            return self._command(entry)
        tool = self._toolset.tool(name) or self._toolset.tool(name.removeprefix("functions."))
        if tool is None and name in ("function", "call_tool", "executar_ferramenta"):
            named = entry.get("tool") or entry.get("tool_name")
            tool = self._toolset.tool(named) if isinstance(named, str) else None
        if tool is None:
            return None
        self.form = "flat" if self.form != "nested" else self.form
        return self._made(tool, self._arguments(tool, entry))

    def _arguments(self, tool: Tool, entry: dict[str, Any]) -> Any:
        for key in ARGUMENT_KEYS:
            if key in entry:
                return entry[key]
        rest = {
            key: value
            for key, value in entry.items()
            if key not in NAME_KEYS and key not in OTHER_KEYS and value is not None
        }
        return rest if rest or not _required(tool) else None

    def _command(self, entry: dict[str, Any]) -> ToolCall | None:
        """`{"cmd": ["TOOL", "text"]}` or `{"cmd": "text"}`, where one offered tool fits."""
        given = next((entry[key] for key in COMMAND_KEYS if key in entry), None)
        if given is None:
            return None
        self.form = "command"
        if isinstance(given, list) and given and isinstance(given[0], str):
            tool = self._toolset.tool(given[0])
            if tool is not None:
                return self._single(tool, given[1] if len(given) == 2 else given[1:])
        fitting = [tool for tool in self._toolset.offered if set(entry) <= set(_properties(tool))]
        return self._made(fitting[0], entry) if len(fitting) == 1 else None

    def _single(self, tool: Tool, value: Any) -> ToolCall | None:
        """A call of a tool with one parameter, or one required."""
        if tool.kind == "custom":
            return self._made(tool, value)
        names = _required(tool) if len(_required(tool)) == 1 else list(_properties(tool))
        return self._made(tool, {names[0]: value}) if len(names) == 1 else None

    def _made(self, tool: Tool, arguments: Any) -> ToolCall | None:
        text = _custom_text(arguments) if tool.kind == "custom" else _object_text(arguments, tool)
        return None if text is None else ToolCall(self._new_id(), tool.name, text, tool.kind)


def _custom_text(arguments: Any) -> str | None:
    if isinstance(arguments, dict) and len(arguments) == 1:
        (arguments,) = arguments.values()
    if not isinstance(arguments, str):
        return None
    return arguments.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # without halves of surrogate pairs


def _object_text(arguments: Any, tool: Tool) -> str | None:
    """Arguments as the JSON text of an object; None if they are none."""
    if isinstance(arguments, str):
        if not arguments.strip():
            arguments = {}
        else:
            decoded = _decode_all(arguments)
            if decoded is None:
                decoded = _repaired(arguments)
            arguments = decoded[0] if decoded and len(decoded) == 1 else arguments
    if arguments is None and not _required(tool):
        arguments = {}
    if not isinstance(arguments, dict):
        names = _required(tool) or list(_properties(tool))
        if len(names) != 1 or arguments is None:
            return None
        arguments = {names[0]: arguments}
    text = json.dumps(arguments, ensure_ascii=False, separators=(",", ":"))
    return text if _is_unicode(text) else json.dumps(arguments, separators=(",", ":"))


def _is_unicode(text: str) -> bool:
    """Whether it has no half of a surrogate pair, which JSON can escape and UTF-8 cannot hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _properties(tool: Tool) -> dict[str, Any]:
    properties = (tool.parameters or {}).get("properties")
    return properties if isinstance(properties, dict) else {}


def _required(tool: Tool) -> list[str]:
    required = (tool.parameters or {}).get("required")
    return [name for name in required if isinstance(name, str)] if isinstance(required, list) else []
