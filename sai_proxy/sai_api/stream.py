"""The road `stream`: `POST /api/streaming-responses/stream`, the only one that sends text while it is written. Pure.

Source: one public caller: event names without dots, a cookie, the parameters below. Assumed: that a key is not enough
(`@both`, `@key`), that sampling is taken (`@no-sampling`), and that an end without a closing event is a cut.
"""

import hashlib
import re
from codecs import BOM_UTF8
from collections.abc import Collection, Mapping
from typing import Any

import msgspec
from msgspec import Raw

from sai_proxy.conversation.abilities import Abilities
from sai_proxy.conversation.chat import ChatMessage, ChatRequest, Conversation, Route, Usage
from sai_proxy.conversation.events import Event
from sai_proxy.errors import ProxyError, UpstreamAnswerTooLong, UpstreamError, UpstreamProtocolError
from sai_proxy.sai_api.chat import without_system
from sai_proxy.sai_api.documents import (
    MAX_DETAIL_CHARS,
    MAX_DOCUMENT_BYTES,
    DocumentReader,
    Fields,
    count_in,
    decoded,
    fields_in,
    first_text,
    text_in,
)
from sai_proxy.sai_api.entry_options import read_options, with_options
from sai_proxy.sai_api.readers import AnswerReader, read_model, read_usage, sane_model
from sai_proxy.sai_api.server_sent_events import EventParser, ServerSentEvent

SAMPLING: Mapping[str, str] = {"temperature": "temperature", "max_tokens": "maxTokens"}
"""SAI's names of OpenAI's parameters."""

DEFAULT_MAX_TOKENS = 16_384
"""What the known caller sends."""

_CAN = Abilities(live=True, sampling=frozenset(SAMPLING), credentials=frozenset({"cookie"}))
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:-]*")
_NO_LETTER = re.compile(r"[^a-z]")
_CHAR_BYTES = 4
_FAILED = ("error", "failed", "cancelled", "canceled")
TEXT_FIELDS = ("items", "output", "output_text")


class StreamRoad:
    accept = "text/event-stream"
    form = "stream:MODEL[@key|cookie|both|no-sampling, joined by +]"

    def route(self, target: str, override: str | None) -> Route | None:
        options = read_options(override, frozenset({"no-sampling"}))
        if options is None or not _MODEL.fullmatch(target):
            return None
        return Route(target, override, "stream", with_options(_CAN, options))

    def url(self, base_url: str, route: Route) -> str:  # noqa: ARG002
        return f"{base_url}/api/streaming-responses/stream"

    def payload(self, conversation: Conversation, chat: ChatRequest, now_ms: int) -> bytes:  # noqa: ARG002
        leading = next((i for i, m in enumerate(conversation) if m.role != "system"), len(conversation))
        instructions = "\n\n".join(message.text for message in conversation[:leading])
        sampling = {ours: chat.sampling[name] for name, ours in SAMPLING.items() if name in chat.sampling}
        parameters: dict[str, Any] = {
            "maxTokens": DEFAULT_MAX_TOKENS,
            **sampling,
            "enableStreaming": True,
            "model": chat.route.target,
            "fileSearch": False,
            "codeInterpreter": False,
            "webSearch": False,
            "toolSelector": [],
            "mcpServers": [],
            "instructions": instructions,
            "indexerEnabled": False,
            "indexerHash": None,
            "indexerDescription": None,
            "includeIndexerMetadata": False,
            "createScheduledTask": False,
            "voice": None,
            "indexerNumberOfDocuments": 3,
        }
        rest = conversation[leading:] or (ChatMessage("user", (instructions,)),)
        messages = [{"role": m.role, "content": m.text} for m in without_system(rest)]
        body = {
            "messages": messages,
            "conversationId": None,
            "workspaceId": None,
            "createScheduledTaskEnabled": False,
            "parameters": parameters,
        }
        return msgspec.json.encode(body)

    def reader(self, headers: Mapping[str, str], custom_tools: Collection[str]) -> AnswerReader:  # noqa: ARG002
        return StreamReader(headers)


class Closing:
    """What a closing event, or document, says. text: all of the answer, None if it does not say. Raises UpstreamError
    for an answer that has failed."""

    def __init__(self, fields: Fields) -> None:
        outer = {**fields, **fields_in(fields.get("response"))}
        status = text_in(outer.get("status")) or ""
        if status in _FAILED:
            raise UpstreamError({"status": 200}, detail=f"SAI's answer ended as '{status}'")
        texts = (first_text(part, TEXT_FIELDS) for part in (fields, fields_in(fields.get("response"))))
        known = [text for text in texts if text is not None]
        self.text = next((text for text in known if text), known[0] if known else None)
        reason = text_in(fields_in(outer.get("incomplete_details")).get("reason"))
        cut = status == "incomplete" or reason is not None
        self.finish_reason = ("content_filter" if reason == "content_filter" else "length") if cut else None
        self.model = sane_model(text_in(outer.get("model")))
        usage = fields_in(outer.get("usage"))
        self.usage = Usage(count_in(usage, "input_tokens"), count_in(usage, "output_tokens"))


class Sent:
    """The text of a part, an item or the answer that has gone out so far: known by its hash, not kept."""

    def __init__(self) -> None:
        self.chars = 0
        self._hash = hashlib.blake2b(digest_size=16)

    def add(self, text: str) -> None:
        """More of it has gone out."""
        self.chars += len(text)
        self._hash.update(text.encode("utf-8", "surrogatepass"))

    def rest_of(self, whole: str | None) -> str:
        """What of the whole has not gone out: none, if it does not go on from there."""
        if not whole or len(whole) <= self.chars:
            return ""
        begun = hashlib.blake2b(whole[: self.chars].encode("utf-8", "surrogatepass"), digest_size=16)
        return whole[self.chars :] if begun.digest() == self._hash.digest() else ""


class StreamReader:
    """The events of one answer. Deltas go out as they come; what closes a part, an item or all of it brings what they
    did not. Now and then one JSON document comes in place of events, whatever its type says."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self.model = read_model(headers)
        self.usage: Usage = read_usage(headers)
        self.finish_reason: str | None = None
        self.ended = False
        self._headers = headers
        self._start: bytes | None = b""
        self._document: StreamDocumentReader | None = None
        self._parser = EventParser()
        self._part, self._item, self._all = Sent(), Sent(), Sent()
        self._failure: ProxyError | None = None

    @property
    def held_bytes(self) -> int:
        return self._document.held_bytes if self._document is not None else _CHAR_BYTES * self._parser.held_chars

    def feed(self, data: bytes) -> list[Event]:
        if self._start is not None:
            data = self._start + data
            bare = b"" if BOM_UTF8.startswith(data) else data.removeprefix(BOM_UTF8).lstrip()
            self._start = None if bare else data
            if not bare:
                return []
            if bare[:1] == b"{":
                self._document = StreamDocumentReader(self._headers)
        if self._document is not None:
            return self._document.feed(data)
        if self._parser.held_chars > MAX_DOCUMENT_BYTES:
            raise UpstreamAnswerTooLong({"limit": MAX_DOCUMENT_BYTES}, detail="one event")
        return self._read_all(self._parser.feed(data))

    def end(self) -> list[Event]:
        if self._document is not None:
            events = self._document.end()
            self.finish_reason, self.usage = self._document.finish_reason, self._document.usage
            self.model = self._document.model
            return events
        texts = [] if self.ended else self._read_all(self._parser.end())
        if self._failure is not None:
            raise self._failure
        if not self.ended:
            raise UpstreamProtocolError(detail="SAI's stream ended without a closing event")
        return texts

    def _read_all(self, events: list[ServerSentEvent]) -> list[Event]:
        """A failure comes after what was said before it."""
        texts: list[Event] = []
        for event in events:
            if self.ended:
                break
            try:
                text = self._read(event)
            except ProxyError as exc:
                self._failure, self.ended = exc, True
                break
            if text:
                texts.append(text)
        return texts

    def _read(self, event: ServerSentEvent) -> str:
        if event.data == "[DONE]":
            self.ended = True
            return ""
        fields = _event_fields(event)
        kind = event.name if event.name != "message" else text_in(fields.get("type")) or ""
        match _NO_LETTER.sub("", kind.lower()).removeprefix("response"):
            case "outputtextdelta":
                return self._more(text_in(fields.get("delta")) or "")
            case "contentpartdone" | "outputtextdone":
                text = self._more(self._part.rest_of(first_text(fields, ("part", "text"))))
                self._part = Sent()
                return text
            case "outputitemdone":
                text = self._more(self._item.rest_of(_item_text(fields)))
                self._part, self._item = Sent(), Sent()
                return text
            case "completed" | "incomplete":
                return self._close(Closing(fields))
            case "complete":
                self._complete(text_in(fields.get("status")) or "")
            case kind if kind in _FAILED:
                raise UpstreamError({"status": 200}, detail=f"SAI's stream failed: {event.data[:MAX_DETAIL_CHARS]}")
        return ""

    def _close(self, closing: Closing) -> str:
        self.ended = True
        self.finish_reason = closing.finish_reason
        self.model = self.model or closing.model
        if closing.usage != Usage():
            self.usage = closing.usage
        return self._more(self._all.rest_of(closing.text))

    def _complete(self, status: str) -> None:
        if status not in ("", "finished", "completed"):
            raise UpstreamError({"status": 200}, detail=f"SAI's stream ended as '{status[:100]}'")
        self.ended = True

    def _more(self, text: str) -> str:
        if text:
            for sent in (self._part, self._item, self._all):
                sent.add(text)
        return text


class StreamDocumentReader(DocumentReader):
    """The one JSON document that comes in place of events now and then."""

    def read(self, document: Fields) -> list[Event]:
        closing = Closing(document)
        text = closing.text if closing.text is not None else first_text(document, ("message", "content", "text"))
        if text is None:
            raise UpstreamProtocolError(detail=f"no text in SAI's answer, but {', '.join(document)[:200]}")
        self.finish_reason = closing.finish_reason
        self.model = self.model or closing.model
        if closing.usage != Usage():
            self.usage = closing.usage
        return [text] if text else []


def _item_text(fields: Fields) -> str | None:
    """Of an item that the assistant has said; reasoning and others are no part of the answer."""
    item = fields.get("item")
    return None if item is None else text_in(Raw(b"[" + bytes(item) + b"]"))


def _event_fields(event: ServerSentEvent) -> Fields:
    try:
        fields: Fields = decoded(event.data.encode(), Fields)
    except UpstreamProtocolError as exc:
        if event.data.lstrip()[:1] == "{":
            raise UpstreamProtocolError(detail=f"an event '{event.name[:50]}' that is no JSON") from exc
        return {}
    return fields
