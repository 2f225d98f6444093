"""Tools and the answer's form, as OpenAI's clients send them: nested, flat or deprecated functions, custom tools.

Source: OpenAI's API reference, `POST /v1/chat/completions`; flat tools as Cursor and the Responses API send them.
"""

import re
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Raw, Struct, field
from msgspec.structs import replace

from sai_proxy.conversation.offer import OutputFormat, Tool, Toolset
from sai_proxy.errors import ArrayTooLong, InvalidType, InvalidValue, MissingParameter, UnsupportedValue
from sai_proxy.openai_api.decoding import decode_field
from sai_proxy.openai_api.raw import Anything, absent, asks, check_kind, is_given, kind_of
from sai_proxy.openai_api.remembered import Remembered
from sai_proxy.tools.validation import InvalidSchemaError, Validator

MAX_TOOLS = 256
MAX_TOOLS_BYTES = 512 * 1024
MAX_NAME_CHARS = 128
MAX_NESTING = 32
"""Of a JSON Schema."""

NO_TOOLS, NO_TOOLS_ES = "there are no tools to choose from", "no hay herramientas entre las que elegir"

_NAME = re.compile(r"[A-Za-z0-9_.:/-]+")


class WireFunction(Struct):
    name: str | None = None
    description: str | None = None
    parameters: dict[str, Any] | None = None
    input_schema: dict[str, Any] | None = None
    strict: bool | None = None
    format: dict[str, Any] | None = None


class WireTool(Struct):
    """Flat and nested in one: `function` and `custom` hold what else stands beside `type`."""

    type: str = "function"
    function: WireFunction | None = None
    custom: WireFunction | None = None
    name: str | None = None
    description: str | None = None
    parameters: dict[str, Any] | None = None
    input_schema: dict[str, Any] | None = None
    strict: bool | None = None
    format: dict[str, Any] | None = None


class WireChoice(Struct):
    """`tool_choice` as an object, and `function_call`, which has no type."""

    type: str | None = None
    name: str | None = None
    function: WireFunction | None = None
    custom: WireFunction | None = None
    allowed_tools: "AllowedTools | None" = None
    mode: str | None = None
    tools: list[WireTool] | None = None


class AllowedTools(Struct):
    mode: str = "auto"
    tools: list[WireTool] = []


class JsonSchema(Struct):
    name: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None
    description: str | None = None


class ResponseFormat(Struct):
    type: str
    json_schema: Anything = field(default_factory=absent)


_tools_decoder = msgspec.json.Decoder(list[WireTool])
_functions_decoder = msgspec.json.Decoder(list[WireFunction])
_choice_decoder = msgspec.json.Decoder(str | WireChoice)
_schema_decoder = msgspec.json.Decoder(JsonSchema)
_remembered: Remembered[tuple[Toolset | None]] = Remembered(max_bytes=256 * 1024, max_one=64 * 1024)


def read_toolset(tools: Raw, choice: Raw, *, parallel: bool | None, param: str = "tools") -> Toolset | None:
    """The tools that may be called, None for none. Raises InvalidRequest."""
    made_of = bytes(tools), bytes(choice), parallel, param
    remembered = _remembered.get(made_of)
    if remembered is None:
        remembered = (_read_toolset(tools, choice, parallel=parallel, param=param),)
        _remembered.put(made_of, len(tools) + len(choice), remembered)
    return remembered[0]


def _read_toolset(tools: Raw, choice: Raw, *, parallel: bool | None, param: str) -> Toolset | None:
    check_kind(tools, param, "array")
    check_kind(choice, "tool_choice", "string", "object")
    offered = [read_tool(wire, f"{param}[{index}]") for index, wire in enumerate(_decoded(tools, param))]
    return _chosen(offered, choice, "tool_choice", parallel=parallel is not False)


def read_functions(functions: Raw, choice: Raw) -> Toolset | None:
    """The same of the deprecated fields. Raises InvalidRequest."""
    check_kind(functions, "functions", "array")
    check_kind(choice, "function_call", "string", "object")
    check_size(functions, "functions")
    wires = decode_field(functions, _functions_decoder, "functions") if asks(functions) else []
    offered = [read_tool(WireTool(function=wire), f"functions[{index}]") for index, wire in enumerate(wires)]
    toolset = _chosen(offered, choice, "function_call", parallel=False)
    return None if toolset is None else replace(toolset, deprecated=True)


def read_output(format: ResponseFormat | None) -> OutputFormat | None:
    """The form that the answer has to have, None for free text. Raises InvalidRequest."""
    if format is None or format.type == "text":
        return None
    if format.type == "json_object":
        return OutputFormat()
    if format.type != "json_schema":
        raise UnsupportedValue({"allowed": "text, json_object, json_schema"}, param="response_format.type")
    if not is_given(format.json_schema):
        raise MissingParameter(param="response_format.json_schema")
    check_size(format.json_schema, "response_format")
    wire = decode_field(format.json_schema, _schema_decoder, "response_format.json_schema")
    return output_of(wire, "response_format.json_schema")


def output_of(wire: JsonSchema, param: str) -> OutputFormat:
    """A schema that may be checked. Raises InvalidRequest."""
    if wire.schema is None:
        return OutputFormat(strict=bool(wire.strict))
    check_schema(wire.schema, f"{param}.schema")
    _check_usable(wire.schema, f"{param}.schema")
    return OutputFormat(wire.schema, strict=bool(wire.strict))


def check_schema(schema: dict[str, Any], param: str) -> None:
    """Raises InvalidValue for a schema that is nested too deeply."""
    if _depth(schema) > MAX_NESTING:
        raise invalid(param, f"nested more than {MAX_NESTING} deep", f"anidado en más de {MAX_NESTING} niveles")


def _check_usable(schema: dict[str, Any], param: str) -> None:
    """Raises InvalidValue for a schema that answers cannot be checked against: that is said, not skipped."""
    try:
        Validator(schema)
    except InvalidSchemaError as exc:
        raise invalid(param, f"not a usable JSON Schema: {exc}", f"no es un JSON Schema utilizable: {exc}") from exc


def _decoded(tools: Raw, param: str) -> list[WireTool]:
    if not asks(tools):
        return []
    check_size(tools, param)
    wires = decode_field(tools, _tools_decoder, param)
    if len(wires) > MAX_TOOLS:
        raise ArrayTooLong({"limit": MAX_TOOLS}, param=param)
    return wires


def check_size(raw: Raw, param: str) -> None:
    """Raises InvalidValue for more than any list of tools, or schema, needs."""
    if len(raw) > MAX_TOOLS_BYTES:
        raise invalid(param, "too large", "demasiado grande")


def read_tool(wire: WireTool, path: str) -> Tool:
    """One tool. Raises InvalidRequest."""
    kind = "custom" if wire.type == "custom" else "function"
    if wire.type not in ("function", "custom"):
        raise UnsupportedValue({"allowed": "function, custom"}, param=f"{path}.type")
    inner = wire.function or wire.custom
    nested = f".{kind}" if inner else ""
    said = inner or WireFunction(
        wire.name, wire.description, wire.parameters, wire.input_schema, wire.strict, wire.format
    )
    if not said.name:
        raise MissingParameter(param=f"{path}{nested}.name" if inner or wire.name is not None else f"{path}.{kind}")
    if len(said.name) > MAX_NAME_CHARS or not _NAME.fullmatch(said.name):
        raise invalid(f"{path}{nested}.name", "not a tool's name", "no es un nombre de herramienta")
    parameters = said.parameters if said.parameters is not None else said.input_schema
    if parameters is not None:
        check_schema(parameters, f"{path}{nested}.parameters")
    if parameters is not None and said.strict:
        _check_usable(parameters, f"{path}{nested}.parameters")
    if kind == "custom":
        return Tool(said.name, said.description or "", None, "custom", grammar=_grammar(said.format))
    return Tool(said.name, said.description or "", parameters, "function", strict=bool(said.strict))


def _grammar(format: dict[str, Any] | None) -> str:
    """A custom tool's format in words; it is shown to the model, and not enforced."""
    if not format or format.get("type") != "grammar":
        return ""
    inner = format.get("grammar") if isinstance(format.get("grammar"), dict) else format
    syntax, definition = (inner or {}).get("syntax"), (inner or {}).get("definition")
    return f"  Its text has to fit this {syntax} grammar:\n{definition}" if definition else ""


def _chosen(offered: list[Tool], raw: Raw, param: str, *, parallel: bool) -> Toolset | None:
    choice = decode_field(raw, _choice_decoder, param) if is_given(raw) else "auto"
    if isinstance(choice, str):
        if choice not in ("none", "auto", "required"):
            raise UnsupportedValue({"allowed": "none, auto, required, or one tool"}, param=param)
        if choice == "none" or (not offered and choice == "auto"):
            return None
        if not offered:
            raise invalid(param, NO_TOOLS, NO_TOOLS_ES)
        return Toolset(tuple(offered), "required" if choice == "required" else "auto", parallel)
    allowed = choice.allowed_tools or (AllowedTools(choice.mode or "auto", choice.tools) if choice.tools else None)
    if allowed is not None:
        names = [(wire.function or wire.custom or wire).name for wire in allowed.tools]
        return Toolset(named(offered, names, param), "required" if allowed.mode == "required" else "auto", parallel)
    name = (choice.function or choice.custom or choice).name
    if name is None:
        raise InvalidType({"expected": "none | auto | required | one tool", "found": kind_of(raw)}, param=param)
    return Toolset(named(offered, [name], param), "required", parallel)


def named(offered: Sequence[Tool], names: Sequence[str | None], param: str) -> tuple[Tool, ...]:
    """The tools of these names. Raises InvalidValue for one that is not offered."""
    known = {tool.name: tool for tool in offered}
    for name in names:
        if name not in known:
            raise invalid(
                param,
                f"'{str(name)[:100]}' is not among the tools",
                f"'{str(name)[:100]}' no está entre las herramientas",
            )
    return tuple(known[name] for name in dict.fromkeys(names) if name is not None)


def _depth(value: object) -> int:
    """Levels of nesting, found without recursion."""
    deepest, level = 0, [value]
    while level and deepest <= MAX_NESTING:
        deepest += 1
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer if isinstance(outer, list) else ())
        ]
    return deepest


def invalid(param: str, english: str, spanish: str) -> InvalidValue:
    """What is wrong with a value, in both languages."""
    return InvalidValue({"problem_en": english, "problem_es": spanish}, param=param)
