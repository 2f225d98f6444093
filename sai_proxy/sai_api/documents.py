"""Answers that are one JSON document, of which nothing is known before its end. Pure."""

import re
from codecs import BOM_UTF8
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Raw

from sai_proxy.conversation.chat import Usage
from sai_proxy.conversation.events import Event
from sai_proxy.errors import UpstreamAnswerTooLong, UpstreamError, UpstreamProtocolError
from sai_proxy.sai_api.readers import read_model, read_usage
from sai_proxy.sai_api.text import text_decoder

KEPT_TIMES = 3
"""How often a document is there at its end: as bytes, joined, and as what is in it."""

MAX_DETAIL_CHARS = 300
MAX_COUNT_DIGITS = 9
MAX_DOCUMENT_BYTES = 4 * 1024 * 1024
"""Far more than any model writes at once; decoded, JSON takes many times its bytes."""

MAX_DEPTH = 4
"""Of texts inside of parts inside of items."""

MAX_OBJECTS, LEAST_OBJECT_BYTES = 5_000, 12
TEXT_TYPES = ("text", "output_text", "message", "input_text")
FINISH_REASONS = ("length", "content_filter")
"""Those that say more than that the text, or its calls, are there."""

Fields = dict[str, Raw]

_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F]|(?P<half>u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)
_KINDS = {ord('"'): "string", ord("{"): "object", ord("["): "array"}


class DocumentReader:
    """An answer that is read at its end. Subclasses say what its fields mean."""

    ended = False

    def __init__(self, headers: Mapping[str, str]) -> None:
        self.model = read_model(headers)
        self.usage: Usage = read_usage(headers)
        self.finish_reason: str | None = None
        self._content_type = headers.get("Content-Type", "")
        self._pieces: list[bytes] = []
        self._size = 0
        self.held_bytes = 0

    def feed(self, data: bytes) -> list[Event]:
        self._pieces.append(data)
        self._size += len(data)
        if self._size > MAX_DOCUMENT_BYTES:
            raise UpstreamAnswerTooLong({"limit": MAX_DOCUMENT_BYTES}, detail="a document of JSON")
        self.held_bytes = KEPT_TIMES * self._size
        return []

    def end(self) -> list[Event]:
        body, self._pieces, self.held_bytes = b"".join(self._pieces), [], 0
        body = body.removeprefix(BOM_UTF8)
        document = self._fields(body)
        if document is None:
            return self._as_text(body)
        if is_truthy(document.get("error")):
            detail = bytes(document["error"])[:MAX_DETAIL_CHARS].decode(errors="replace")
            raise UpstreamError({"status": 200}, detail=f"SAI answered 200 with an error: {detail}")
        return self.read(document)

    def read(self, document: Fields) -> list[Event]:
        """The events of the document. Raises UpstreamProtocolError."""
        raise NotImplementedError

    def _fields(self, body: bytes) -> Fields | None:
        try:
            fields: Fields = decoded(body, Fields)
        except UpstreamProtocolError:
            return None
        return fields

    def _as_text(self, body: bytes) -> list[Event]:
        """What is no JSON object is the text itself: bare, or as a string of JSON. What calls itself JSON and is
        neither is no answer, nor is what began as an object, or a web page."""
        start = body.lstrip()[:1]
        is_json = "json" in self._content_type.lower()
        if start in (b"{", b"<") or (is_json and start != b'"'):
            raise UpstreamProtocolError(detail="SAI's answer is malformed JSON, or a web page, or ends too early")
        decoder = text_decoder(self._content_type)
        text = decoder.feed(body) + decoder.end()
        return [text] if text else []


class Part(msgspec.Struct):
    """One part of a text, in any of the forms that occur."""

    type: str | None = None
    role: str | None = None
    text: Raw = msgspec.field(default_factory=Raw)
    content: Raw = msgspec.field(default_factory=Raw)


def refuse_bomb(raw: Raw) -> None:
    """Raises UpstreamProtocolError for a list of next to nothing, which takes many times its bytes when decoded."""
    objects = bytes(raw).count(b"{") if len(raw) > MAX_OBJECTS else 0
    if objects > MAX_OBJECTS and len(raw) < LEAST_OBJECT_BYTES * objects:
        raise UpstreamProtocolError(detail="SAI's answer has an absurd number of parts")


def is_truthy(raw: Raw | None) -> bool:
    """Whether a field is there, and neither null, false nor empty."""
    return raw is not None and bytes(raw) not in (b"", b"null", b"false", b'""', b"{}", b"[]", b"0")


def kind_of(raw: Raw) -> str | None:
    """`string`, `object` or `array`, None for anything else."""
    return _KINDS.get(memoryview(raw)[0]) if len(raw) else None


def fields_in(raw: Raw | None) -> Fields:
    """An object's fields, none for anything else."""
    return decoded(raw, Fields) if raw is not None and kind_of(raw) == "object" else {}


def count_in(fields: Fields, *names: str) -> int | None:
    """The first of these that is a sensible number of tokens."""
    for name in names:
        text = bytes(fields.get(name, b""))
        if text.isdigit() and len(text) <= MAX_COUNT_DIGITS:
            return int(text)
    return None


def text_in(raw: Raw | None, depth: int = 0) -> str | None:
    """The text of a field: a string, an object with `content` or `text`, or a list of such parts."""
    if raw is None or depth > MAX_DEPTH:
        return None
    match kind_of(raw):
        case "string":
            return str(decoded(raw, str))
        case "object":
            part = decoded(raw, Part)
            found = (text_in(field, depth + 1) for field in (part.content, part.text) if len(field))
            return next((text for text in found if text is not None), None)
        case "array":
            refuse_bomb(raw)
            parts: list[str | Part] = decoded(raw, list[str | Part])
            texts = [part if isinstance(part, str) else _part_text(part, depth + 1) for part in parts]
            return "".join(text for text in texts if text)
    return None


def _part_text(part: Part, depth: int) -> str | None:
    """Reasoning, and what a tool or a user has said, are no part of the answer."""
    if (part.type is not None and part.type not in TEXT_TYPES) or part.role not in (None, "assistant"):
        return None
    return text_in(part.content if len(part.content) else part.text, depth)


def first_text(fields: Mapping[str, Raw], names: tuple[str, ...]) -> str | None:
    """The text of the first of these fields that holds any; the empty one, if all are."""
    found: str | None = None
    for name in names:
        text = text_in(fields.get(name))
        if text:
            return text
        found = text if found is None else found
    return found


def decoded(raw: Raw | bytes, kind: Any) -> Any:
    """A document, or a part of one. Raises UpstreamProtocolError for another shape."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass
    try:
        return msgspec.json.decode(_mended(bytes(raw)), type=kind)
    except (msgspec.MsgspecError, RecursionError) as exc:
        raise UpstreamProtocolError(detail=f"SAI's answer has an unknown shape: {type(exc).__name__}") from exc


def _mended(document: bytes) -> bytes:
    """With U+FFFD for what UTF-8 cannot hold: bytes that are none, and halves of surrogate pairs, which JSON can
    escape."""
    text = document.decode("utf-8", "replace").encode()
    return _ESCAPE.sub(lambda found: rb"\ufffd" if found["half"] else found[0], text)
