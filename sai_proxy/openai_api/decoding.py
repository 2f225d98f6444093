"""JSON body to typed value, with every fault named in OpenAI's words and at OpenAI's path."""

import re
from typing import TypeVar

import msgspec

from sai_proxy.errors import EmptyArray, InvalidRequest, InvalidType, InvalidValue, MalformedJson, MissingParameter

T = TypeVar("T")

_AT = re.compile(r"^(?P<problem>.*?)(?: - at `\$\.?(?P<path>.*)`)?$", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<name>[^`]*)`")
_TYPE = re.compile(r"Expected `(?P<expected>[^`]*)`(?:, got `(?P<found>[^`]*)`)?$")

_JSON_NAMES = {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}
_MAX_SHOWN = 100


def decode_body(body: bytes, decoder: "msgspec.json.Decoder[T]") -> T:
    """Decode a request body. Raises InvalidRequest, naming the place and never the whole value."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as exc:
        raise _explain(str(exc)) from exc
    except msgspec.DecodeError as exc:
        raise MalformedJson({"problem": _shown(str(exc))}) from exc
    except UnicodeDecodeError as exc:
        raise MalformedJson({"problem": f"not UTF-8 at byte {exc.start}"}) from exc
    except RecursionError as exc:
        raise MalformedJson({"problem": "nested too deeply"}) from exc


def _explain(fault: str) -> InvalidRequest:
    """msgspec's sentence as an error of ours; its forms are pinned by this module's tests."""
    match = _AT.match(fault)
    problem, path = (match["problem"], match["path"] or "") if match else (fault, "")
    if missing := _MISSING.match(problem):
        return MissingParameter(param=f"{path}.{missing['name']}" if path else missing["name"])
    if problem == "Expected `array` of length >= 1":
        return EmptyArray(param=path)
    if wrong := _TYPE.match(problem):
        return InvalidType(
            {"expected": _json_name(wrong["expected"]), "found": _json_name(wrong["found"] or "another type")},
            param=path or None,
        )
    return InvalidValue({"problem": _shown(problem.replace("`", ""))}, param=path or None)


def _json_name(names: str) -> str:
    return " | ".join(_JSON_NAMES.get(name, name) for name in names.split(" | "))


def _shown(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "..."
