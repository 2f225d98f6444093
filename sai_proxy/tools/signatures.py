"""Tools as a model reads them: one line each where that is exact, the JSON Schema where it is not. Pure."""

import json
from typing import Any

from sai_proxy.conversation.offer import Tool

_NOISE = ("$schema", "title", "additionalProperties")
"""Says nothing that a model could act on."""

_HUGE = 2**53 - 1
"""JavaScript's largest integer, which some clients send as every integer's bound."""

_MAX_DEPTH = 3


def signature(tool: Tool) -> str:
    """`name(city: string, days?: integer = 3)`, and its description."""
    head = (
        f"{tool.name}({_parameters(tool.parameters or {})})" if tool.kind == "function" else f"{tool.name}(free text)"
    )
    described = f"{head}: {tool.description.strip()}" if tool.description.strip() else head
    notes = _notes(tool.parameters or {}) if tool.kind == "function" else tool.grammar
    return f"{described}\n{notes}" if notes else described


def _parameters(schema: dict[str, Any]) -> str:
    properties, required = schema.get("properties"), schema.get("required") or []
    if not isinstance(properties, dict):
        return (
            ""
            if not (set(schema) - {*_NOISE, "type", "properties", "description"})
            else f"arguments: {compact(schema)}"
        )
    return ", ".join(
        f"{name}{'' if name in required else '?'}: {type_of(value, schema, _MAX_DEPTH)}{_default(value)}"
        for name, value in properties.items()
    )


def _default(schema: Any) -> str:
    has = isinstance(schema, dict) and "default" in schema and schema["default"] is not None
    return f" = {_json(schema['default'])}" if has else ""


def _notes(schema: dict[str, Any]) -> str:
    """Descriptions of parameters, on one line."""
    properties = schema.get("properties")
    if not isinstance(properties, dict):
        return ""
    told = [
        f"{name}: {' '.join(str(value['description']).split())}"
        for name, value in properties.items()
        if isinstance(value, dict) and value.get("description")
    ]
    return f"  ({'; '.join(told)})" if told else ""


def type_of(schema: Any, root: dict[str, Any], depth: int) -> str:
    """A schema as a short type, exact or else the schema itself."""
    if not isinstance(schema, dict):
        return "any"
    if "$ref" in schema:
        target = _target(schema["$ref"], root)
        return type_of(target, root, depth - 1) if target is not None and depth > 0 else compact(schema)
    if isinstance(schema.get("enum"), list):
        return "|".join(map(_json, schema["enum"]))
    if "const" in schema:
        return _json(schema["const"])
    for union in ("anyOf", "oneOf"):
        if isinstance(schema.get(union), list) and schema[union]:
            return "|".join(dict.fromkeys(type_of(option, root, depth) for option in schema[union]))
    kind = schema.get("type")
    if isinstance(kind, list):
        return "|".join(type_of({**schema, "type": one}, root, depth) for one in kind)
    if kind == "array":
        return f"[{type_of(schema.get('items'), root, depth - 1)}]" if depth > 0 else compact(schema)
    if kind == "object" and isinstance(schema.get("properties"), dict) and depth > 0:
        required = schema.get("required") or []
        inner = ", ".join(
            f"{name}{'' if name in required else '?'}: {type_of(value, root, depth - 1)}"
            for name, value in schema["properties"].items()
        )
        return f"{{{inner}}}"
    if kind == "object":
        return "object"
    return f"{kind}{_bounds(schema)}" if isinstance(kind, str) else compact(schema) if _plain(schema) else "any"


def _bounds(schema: dict[str, Any]) -> str:
    words = []
    for name, sign in (("minimum", ">="), ("exclusiveMinimum", ">"), ("maximum", "<="), ("exclusiveMaximum", "<")):
        bound = schema.get(name)
        if isinstance(bound, int | float) and not isinstance(bound, bool) and abs(bound) < _HUGE:
            words.append(f"{sign}{bound:g}")
    for name in ("minLength", "maxLength", "pattern", "format"):
        if name in schema:
            words.append(f"{name} {_json(schema[name])}")
    return f" ({', '.join(words)})" if words else ""


def example_of(schema: dict[str, Any]) -> dict[str, Any]:
    """Arguments of the right names and kinds, for the required parameters, or else the first one."""
    properties = schema.get("properties")
    if not isinstance(properties, dict):
        return {}
    required = schema.get("required")
    names = [name for name in required or [] if name in properties] or list(properties)[:1]
    return {name: _example(properties[name]) for name in names}


def _example(schema: Any) -> Any:
    if not isinstance(schema, dict):
        return "..."
    if isinstance(schema.get("enum"), list) and schema["enum"]:
        return schema["enum"][0]
    match schema.get("type"):
        case "integer" | "number":
            return 1
        case "boolean":
            return True
        case "array":
            return [_example(schema.get("items"))]
        case "object":
            return example_of(schema)
    return "..."


def _target(reference: Any, root: dict[str, Any]) -> Any:
    """What `#/$defs/Name` names."""
    found: Any = root
    if not (isinstance(reference, str) and reference.startswith("#/")):
        return None
    for name in reference[2:].split("/"):
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _plain(schema: Any) -> Any:
    """`schema` without what says nothing."""
    if isinstance(schema, dict):
        return {name: _plain(value) for name, value in schema.items() if name not in _NOISE}
    return [_plain(item) for item in schema] if isinstance(schema, list) else schema


def compact(schema: dict[str, Any]) -> str:
    """The schema as short JSON."""
    return _json(_plain(schema))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
