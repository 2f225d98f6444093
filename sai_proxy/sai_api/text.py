"""Bytes of an answer's body to text, piece by piece as they arrive.

A character, or an escape of a JSON string, that is cut by a network boundary is held back until it
is whole; bytes that are no text become U+FFFD, and nothing else changes.
"""

import codecs
import json
import re
from functools import lru_cache
from typing import Protocol

from sai_proxy.errors import UpstreamProtocolError

CHARSETS = {"ascii", "iso8859-1", "iso8859-15", "cp1252", "utf-8", "utf-16", "utf-16-le", "utf-16-be"}


class TextDecoder(Protocol):
    def feed(self, data: bytes) -> str:
        """The text that `data` completes, possibly none."""
        ...

    def end(self) -> str:
        """What was held back. Raises UpstreamProtocolError if the body ended too early."""
        ...


def text_decoder(content_type: str) -> TextDecoder:
    """The decoder for a body of this Content-Type: JSON may be one quoted string, and all else is
    text in its charset, UTF-8 unless it names another."""
    is_json, codec = _read_content_type(content_type)
    plain: TextDecoder
    plain = Utf8Text() if codec.name == "utf-8" else Utf16Text() if codec.name == "utf-16" else PlainText(codec)
    return JsonText(plain) if is_json else plain


@lru_cache(maxsize=100)
def _read_content_type(content_type: str) -> "tuple[bool, codecs.CodecInfo]":
    """Whether a body of this type is JSON, and its codec: one of CHARSETS, as Python has codecs that
    are none; any other counts as UTF-8."""
    media_type, _, parameters = content_type.partition(";")
    named = re.search(r"charset\s*=\s*\"?([^\s\";]+)", parameters, re.IGNORECASE)
    try:
        codec = codecs.lookup(named[1] if named else "utf-8")
    except (LookupError, ValueError):  # a name of odd bytes, too
        codec = codecs.lookup("utf-8")
    return media_type.strip().lower() == "application/json", codec if codec.name in CHARSETS else codecs.lookup("utf-8")


class PlainText:
    """Text in one charset."""

    def __init__(self, codec: codecs.CodecInfo) -> None:
        assert codec.incrementaldecoder is not None
        self._decoder = codec.incrementaldecoder(errors="replace")

    def feed(self, data: bytes) -> str:
        return self._decoder.decode(data)

    def end(self) -> str:
        return self._decoder.decode(b"", final=True)


class Utf8Text:
    """UTF-8, as most is: the same as `PlainText`, at a fifth of its cost."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes) -> str:
        if self._held:
            data = self._held + data
        text, used = codecs.utf_8_decode(data, "replace", False)
        self._held = data[used:] if used < len(data) else b""
        return text

    def end(self) -> str:
        held, self._held = self._held, b""
        return codecs.utf_8_decode(held, "replace", True)[0] if held else ""


class Utf16Text:
    """UTF-16 in the order that its byte order mark says; big-endian without one (RFC 2781, 4.3), for which Python's
    own decoder raises."""

    def __init__(self) -> None:
        self._held = b""
        self._plain: PlainText | None = None

    def feed(self, data: bytes) -> str:
        if self._plain is None:
            data = self._held + data
            if len(data) < len(codecs.BOM_UTF16):
                self._held = data
                return ""
            little = data.startswith(codecs.BOM_UTF16_LE)
            self._plain = PlainText(codecs.lookup("utf-16-le" if little else "utf-16-be"))
            data = data[len(codecs.BOM_UTF16) :] if little or data.startswith(codecs.BOM_UTF16_BE) else data
        return self._plain.feed(data)

    def end(self) -> str:
        return "\ufffd" * bool(self._held) if self._plain is None else self._plain.end()


_SIMPLE = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", '"': '"', "\\": "\\", "/": "/"}
_PLAIN_RUN = re.compile(r'[^"\\]+')
_RUN = re.compile(r'[^"\\]*+(?:\\(?:[ntrbf"\\/]|u(?![dD][89a-fA-F])[0-9a-fA-F]{4})[^"\\]*+)*+')
"""As long as there is nothing in it that needs a closer look, such as halves of surrogate pairs."""

_UNICODE = re.compile(r"\\u([0-9a-fA-F]{4})")
_SPACE = " \t\r\n"


class JsonText:
    """A body of type application/json: one quoted string is decoded, anything else passes as it is
    (a model that was asked for JSON wrote it)."""

    def __init__(self, plain: TextDecoder) -> None:
        self._plain = plain
        self._held = ""
        self._state = "start"

    def feed(self, data: bytes) -> str:
        return self._take(self._plain.feed(data))

    def end(self) -> str:
        text = self._take(self._plain.end())
        if self._state == "start":
            return text + self._held
        if self._state == "inside":
            raise UpstreamProtocolError(detail="a JSON string ended before its closing quote")
        return text

    def _take(self, text: str) -> str:
        if self._state == "verbatim":
            return text
        text = self._held + text
        self._held = ""
        if self._state == "start":
            bare = text.lstrip(_SPACE)
            if not bare:
                self._held = text
                return ""
            if bare[0] != '"':
                self._state = "verbatim"
                return text
            self._state, text = "inside", bare[1:]
        return self._inside(text) if self._state == "inside" else self._after(text)

    def _inside(self, text: str) -> str:
        run = _RUN.match(text)
        at = run.end() if run else 0
        pieces = [json.loads(f'"{text[:at]}"', strict=False)] if at else []
        while at < len(text):
            if run := _PLAIN_RUN.match(text, at):
                pieces.append(run[0])
                at = run.end()
            elif text[at] == '"':
                self._state = "after"
                self._after(text[at + 1 :])
                break
            else:
                step = self._escape(text, at)
                if step is None:
                    self._held = text[at:]
                    break
                piece, at = step
                pieces.append(piece)
        return "".join(pieces)

    def _escape(self, text: str, at: int) -> tuple[str, int] | None:
        """The character escaped at `at` and where it ends, or None if it is cut."""
        if at + 1 >= len(text):
            return None
        if text[at + 1] != "u":
            simple = _SIMPLE.get(text[at + 1])
            if simple is None:
                raise UpstreamProtocolError(detail="a JSON string with an invalid escape")
            return simple, at + 2
        if at + 6 > len(text):
            return None
        high = _code_unit(text, at)
        if not 0xD800 <= high <= 0xDFFF:
            return chr(high), at + 6
        rest = text[at + 6 : at + 12]
        if high < 0xDC00 and len(rest) < 6 and "\\u".startswith(rest[:2]):
            return None  # the second half of a pair may still come
        if high < 0xDC00 and rest.startswith("\\u"):
            low = _code_unit(text, at + 6)
            if 0xDC00 <= low <= 0xDFFF:
                return chr(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00)), at + 12
        return "\ufffd", at + 6

    def _after(self, text: str) -> str:
        if text.strip(_SPACE):
            raise UpstreamProtocolError(detail="text after the end of a JSON string")
        return ""


def _code_unit(text: str, at: int) -> int:
    match = _UNICODE.match(text, at)
    if match is None:
        raise UpstreamProtocolError(detail="a JSON string with an invalid escape")
    return int(match[1], 16)
