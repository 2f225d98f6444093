"""Answers that are one JSON document, of which nothing is known before its end. Pure."""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Raw

from sai_proxy.conversation.chat import Usage
from sai_proxy.conversation.events import Event
from sai_proxy.errors import UpstreamError, UpstreamProtocolError
from sai_proxy.sai_api.readers import read_model, read_usage
from sai_proxy.sai_api.text import text_decoder

KEPT_TIMES = 3
"""How often a document is there at its end: as bytes, joined, and as what is in it."""

MAX_DETAIL_CHARS = 300
MAX_COUNT_DIGITS = 9
FINISH_REASONS = ("length", "content_filter")
"""Those that say more than that the text, or its calls, are there."""

Fields = dict[str, Raw]

_fields_decoder = msgspec.json.Decoder(Fields)
_KINDS = {ord('"'): "string", ord("{"): "object", ord("["): "array"}


class DocumentReader:
    """An answer that is read at its end. Subclasses say what its fields mean."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self.model = read_model(headers)
        self.usage: Usage = read_usage(headers)
        self.finish_reason: str | None = None
        self._content_type = headers.get("Content-Type", "")
        self._pieces: list[bytes] = []
        self.held_bytes = 0

    def feed(self, data: bytes) -> list[Event]:
        self._pieces.append(data)
        self.held_bytes += KEPT_TIMES * len(data)
        return []

    def end(self) -> list[Event]:
        body, self._pieces, self.held_bytes = b"".join(self._pieces), [], 0
        try:
            document = _fields_decoder.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return self._as_text(body)
        if is_truthy(document.get("error")):
            detail = bytes(document["error"])[:MAX_DETAIL_CHARS].decode(errors="replace")
            raise UpstreamError({"status": 200}, detail=f"SAI answered 200 with an error: {detail}")
        return self.read(document)

    def read(self, document: Fields) -> list[Event]:
        """The events of the document. Raises UpstreamProtocolError."""
        raise NotImplementedError

    def _as_text(self, body: bytes) -> list[Event]:
        """What is no JSON object is the text itself, as a string of JSON or bare; unless it began as one."""
        if body.lstrip()[:1] == b"{":
            raise UpstreamProtocolError(detail="SAI's JSON is malformed, or ends too early")
        decoder = text_decoder(self._content_type)
        text = decoder.feed(body) + decoder.end()
        return [text] if text else []


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


def text_in(raw: Raw | None) -> str | None:
    """The text of a field: a string, an object with `content` or `text`, or a list of such parts."""
    if raw is None:
        return None
    match kind_of(raw):
        case "string":
            return str(decoded(raw, str))
        case "object":
            return first_text(fields_in(raw), ("content", "text"))
        case "array":
            parts = [text_in(part) for part in decoded(raw, list[Raw])]
            return "".join(part for part in parts if part is not None)
    return None


def first_text(fields: Mapping[str, Raw], names: tuple[str, ...]) -> str | None:
    """The text of the first of these fields that holds any, even an empty one."""
    for name in names:
        text = text_in(fields.get(name))
        if text is not None:
            return text
    return None


def decoded(raw: Raw, kind: Any) -> Any:
    """A part of a document. Raises UpstreamProtocolError for another shape."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise UpstreamProtocolError(detail=f"SAI's answer has an unknown shape: {type(exc).__name__}") from exc
