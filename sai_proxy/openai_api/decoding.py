"""JSON body to typed value, with every fault named in OpenAI's words and at OpenAI's path."""

import re
from codecs import BOM_UTF8, getincrementaldecoder
from typing import TypeVar

import msgspec
from msgspec import Raw

from sai_proxy.errors import (
    ArrayTooLong,
    EmptyArray,
    InvalidRequest,
    InvalidType,
    InvalidValue,
    MalformedJson,
    MissingParameter,
)

T = TypeVar("T")

_AT = re.compile(r"^(?P<problem>.*?)(?: - at `\$\.?(?P<path>.*)`)?$", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<name>[^`]*)`")
_TYPE = re.compile(r"Expected `(?P<expected>[^`]*)`(?:, got `(?P<found>[^`]*)`)?$")

_TOO_LONG = re.compile(r"Expected `array` of length <= (\d+)$")

_JSON_NAMES = {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}
_MAX_SHOWN = 100
_MAX_FAULT = 500


MAX_STRINGS = 200_000
"""Of one body, keys included. A message has four, a body that fills the context window some thousands. Past
that it is a bomb: what is decoded takes many times the memory of its bytes."""

_SINGLE = (b'"model"', b'"messages"', b'"prompt"')
_BLANKS = b" \t\r\n"
_fields_decoder = msgspec.json.Decoder(dict[str, Raw])
_UNCOUNTED_BYTES = 256 * 1024
_PIECE_BYTES = 64 * 1024


def decode_body(body: bytes | bytearray, decoder: "msgspec.json.Decoder[T]") -> T:
    """Decode a request body. Raises InvalidRequest, naming the place and never the whole value."""
    if body.startswith(BOM_UTF8):
        body = body[len(BOM_UTF8) :]
    if len(body) > _UNCOUNTED_BYTES and body.count(b'"') - body.count(b'\\"') > 2 * MAX_STRINGS:
        raise InvalidValue(
            {
                "problem_en": f"it holds more than {MAX_STRINGS} strings",
                "problem_es": f"contiene más de {MAX_STRINGS} cadenas",
            }
        )
    _check_utf8(body)
    for name in _SINGLE:
        if body.count(name) > 1:
            _refuse_duplicate(body, name)
            break
    return _decode(body, decoder, "")


def _check_utf8(body: bytes | bytearray) -> None:
    """Raises MalformedJson. The decoder does not look at what it leaves as it is, which may be passed on or told
    back. Piece by piece, since the text of a long body may take four times its bytes."""
    try:
        if len(body) <= _PIECE_BYTES:
            body.decode()
            return
        decoder, view = getincrementaldecoder("utf-8")(), memoryview(body)
        for at in range(0, len(view), _PIECE_BYTES):
            decoder.decode(view[at : at + _PIECE_BYTES])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as exc:
        raise MalformedJson(_problem("not UTF-8")) from exc


def _refuse_duplicate(body: bytes | bytearray, name: bytes) -> None:
    """Raises InvalidValue for a body that says the same twice, of which another reader may take the other one. `name`
    stands there twice, if only in a text: the fields have to add up to all of the body, blanks left out."""
    try:
        fields = _fields_decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return  # its own decoding says what is wrong
    told = sum(len(msgspec.json.encode(name)) + _size_without_blanks(raw) for name, raw in fields.items())
    punctuation = 2 * len(fields) + 1  # braces, colons and commas
    if len(body.translate(None, _BLANKS)) > told + punctuation:
        problem = {"problem_en": "it stands there twice", "problem_es": "aparece dos veces"}
        raise InvalidValue(problem, param=name.decode().strip('"'))


def _size_without_blanks(raw: Raw) -> int:
    return len(bytes(raw).translate(None, _BLANKS))


def decode_field(raw: Raw, decoder: "msgspec.json.Decoder[T]", param: str) -> T:
    """Decode a field that the body's own decoding left as it was. Raises InvalidRequest."""
    return _decode(raw, decoder, param)


def _decode(body: bytes | bytearray | Raw, decoder: "msgspec.json.Decoder[T]", param: str) -> T:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as exc:
        raise _explain(_shortened(str(exc)), param) from exc
    except msgspec.DecodeError as exc:
        raise MalformedJson(_problem(str(exc))) from exc
    except UnicodeDecodeError as exc:
        raise MalformedJson(_problem("not UTF-8")) from exc
    except RecursionError as exc:
        raise MalformedJson(_problem("nested too deeply")) from exc


def _shortened(fault: str) -> str:
    """A fault that quotes a long value, without its middle: what is wrong stands before it, where after it."""
    return fault if len(fault) <= 2 * _MAX_FAULT else f"{fault[:_MAX_FAULT]}...{fault[-_MAX_FAULT:]}"


def _explain(fault: str, param: str) -> InvalidRequest:
    """msgspec's sentence as an error of ours; its forms are pinned by this module's tests."""
    match = _AT.match(fault)
    problem, path = (match["problem"], match["path"] or "") if match else (fault, "")
    path = param + (path if path.startswith("[") or not (path and param) else f".{path}")
    if missing := _MISSING.match(problem):
        return MissingParameter(param=f"{path}.{missing['name']}" if path else missing["name"])
    if problem == "Expected `array` of length >= 1":
        return EmptyArray(param=path)
    if long := _TOO_LONG.match(problem):
        return ArrayTooLong({"limit": long[1]}, param=path)
    if wrong := _TYPE.match(problem):
        return InvalidType(
            {"expected": _json_name(wrong["expected"]), "found": _json_name(wrong["found"] or "another type")},
            param=path or None,
        )
    return InvalidValue(_problem(problem), param=path or None)


_PROBLEMS = (
    (r"Expected `(?:int|float)` ([<>]=? \S+)", "a number {} was expected", "se esperaba un número {}"),
    (r"Invalid (?:enum )?value (.+)", "{} is not one of the allowed values", "{} no es uno de los valores permitidos"),
    (r"Input data was truncated", "it ends too early", "termina antes de tiempo"),
    (r"JSON is malformed: invalid character (.+)", "invalid character {}", "carácter no válido {}"),
    (r"JSON is malformed: trailing characters (.+)", "text after its end {}", "hay texto después de su final {}"),
    (r"not UTF-8", "it is not UTF-8", "no es UTF-8"),
    (r"nested too deeply", "nested too deeply", "demasiados niveles de anidamiento"),
    (r"Number out of range", "the number is out of range", "el número está fuera de rango"),
)
"""msgspec's faults that clients meet most, in both languages; any other keeps its own words."""


def _problem(fault: str) -> dict[str, str]:
    for pattern, english, spanish in _PROBLEMS:
        if match := re.fullmatch(pattern, fault, re.DOTALL):
            found = [_shown(group) for group in match.groups()]
            return {"problem_en": english.format(*found), "problem_es": spanish.format(*found)}
    return dict.fromkeys(("problem_en", "problem_es"), _shown(fault.replace("`", "")))


def _json_name(names: str) -> str:
    return " | ".join(_JSON_NAMES.get(name, name) for name in names.split(" | "))


def _shown(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "..."
