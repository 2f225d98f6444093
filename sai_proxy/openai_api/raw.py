"""Fields of which only a little is asked, if anything: they stay bytes, and cost nothing to decode."""

from itertools import repeat
from typing import Annotated

from msgspec import Meta, Raw

from sai_proxy.errors import InvalidType

Anything = Annotated[Raw, Meta(extra_json_schema={"description": "any JSON"})]
ObjectOrNull = Annotated[Raw, Meta(extra_json_schema={"type": ["object", "null"]})]
ArrayOrNull = Annotated[Raw, Meta(extra_json_schema={"type": ["array", "null"]})]
StringOrObject = Annotated[Raw, Meta(extra_json_schema={"type": ["string", "object", "null"]})]
Strings = Annotated[
    Raw, Meta(extra_json_schema={"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]})
]
StringsOrNull = Annotated[
    Raw,
    Meta(
        extra_json_schema={
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}, {"type": "null"}]
        }
    ),
]

absent = repeat(Raw()).__next__
"""Makes what stands for a field that is not there: the same for all, so that looking for it costs nothing."""

_KINDS = {ord("{"): "object", ord("["): "array", ord('"'): "string", ord("t"): "boolean", ord("f"): "boolean"}
_NOTHING = frozenset({b"", b"null", b"false", b"0", b"{}", b"[]", b'""'})
_BLANKS = b" \t\r\n"
_LONGEST_NOTHING = 64


def is_given(raw: Raw) -> bool:
    """Whether the field is there and not null."""
    return bool(raw) and not (len(raw) == 4 and _beginning(raw) == b"null")


def asks(raw: Raw) -> bool:
    """Whether the field asks for something: null, false, 0 and what is empty do not."""
    return len(raw) > _LONGEST_NOTHING or _beginning(raw).translate(None, _BLANKS) not in _NOTHING


def kind_of(raw: Raw) -> str:
    """JSON's name for the kind of value that it is."""
    first = _beginning(raw)[:1]
    return "null" if first == b"n" else _KINDS.get(first[0] if first else 0, "number")


def check_kind(raw: Raw, param: str, *kinds: str) -> None:
    """Raises InvalidType for a given field of another kind."""
    if is_given(raw) and (found := kind_of(raw)) not in kinds:
        raise InvalidType({"expected": " | ".join(kinds), "found": found}, param=param)


def strings(raw: Raw) -> int:
    """At least as many strings, keys included, as it holds: a quote that is not escaped begins or ends one."""
    view = bytes(raw)
    return view.count(b'"') - view.count(b'\\"')


def _beginning(raw: Raw) -> bytes:
    return memoryview(raw)[:_LONGEST_NOTHING].tobytes()
