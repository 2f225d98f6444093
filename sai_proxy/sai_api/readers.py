"""From the bytes of an answer to its events, whichever road it came by: the protocol, and text. Pure."""

from collections.abc import Mapping
from typing import Protocol

from sai_proxy.conversation.chat import Usage
from sai_proxy.conversation.events import Event
from sai_proxy.sai_api.text import TextDecoder, text_decoder

MAX_MODEL_CHARS = 200
_MAX_TOKEN_DIGITS = 9


class AnswerReader(Protocol):
    """One answer while it is read.

    model: the model that SAI says it used. usage, finish_reason: complete after `end`. finish_reason: `length` or
        `content_filter` where SAI says that there would have been more, else None.
    held_bytes: of what has gone in and not come out. ended: whether all has been said, though more may come.
    """

    @property
    def model(self) -> str | None: ...
    @property
    def usage(self) -> Usage: ...
    @property
    def finish_reason(self) -> str | None: ...
    @property
    def held_bytes(self) -> int: ...
    @property
    def ended(self) -> bool: ...

    def feed(self, data: bytes) -> list[Event]:
        """The events that `data` completes. Raises ProxyError."""
        ...

    def end(self) -> list[Event]:
        """What was held back. Raises ProxyError, if the answer ended too early among other things."""
        ...


class TextReader:
    """An answer that is text and nothing else, with what SAI's headers say of it."""

    __slots__ = ("_text", "model", "usage")

    finish_reason = None
    held_bytes = 0
    ended = False

    def __init__(self, headers: Mapping[str, str]) -> None:
        self.model = read_model(headers)
        self.usage = read_usage(headers)
        self._text: TextDecoder = text_decoder(headers.get("Content-Type", ""))

    def feed(self, data: bytes) -> list[Event]:
        text = self._text.feed(data)
        return [text] if text else []

    def end(self) -> list[Event]:
        text = self._text.end()
        return [text] if text else []


def read_model(headers: Mapping[str, str]) -> str | None:
    """The model that SAI says it used, if that can stand in a header of ours."""
    model = headers.get("model")
    return None if model is None else sane_model(model)


def sane_model(model: str | None) -> str | None:
    """A model's name that can stand in a header; None for any other."""
    return model if model and len(model) <= MAX_MODEL_CHARS and model.isascii() and model.isprintable() else None


def read_usage(headers: Mapping[str, str]) -> Usage:
    """Usage from SAI's response headers; what is absent or no sensible number is None."""
    return Usage(_token_count(headers.get("prompttokens")), _token_count(headers.get("completiontokens")))


def _token_count(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isdigit():
        text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MAX_TOKEN_DIGITS else None
