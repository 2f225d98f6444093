"""The road `stream`: `POST /api/streaming-responses/stream`, the only one that sends text while it is written. Pure.

Source: one public caller: event names without dots, a cookie, the parameters below. Assumed: that a key is not enough
(`@both`, `@key`), that sampling is taken (`@no-sampling`), and that an end without a closing event is a cut.
"""

import hashlib
import re
from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from sai_proxy.conversation.abilities import Abilities
from sai_proxy.conversation.chat import ChatRequest, Conversation, Route, Usage
from sai_proxy.conversation.events import Event
from sai_proxy.errors import UpstreamError, UpstreamProtocolError
from sai_proxy.sai_api.chat import without_system
from sai_proxy.sai_api.documents import (
    MAX_DETAIL_CHARS,
    DocumentReader,
    Fields,
    count_in,
    fields_in,
    first_text,
    is_truthy,
    text_in,
)
from sai_proxy.sai_api.entry_options import read_options, with_options
from sai_proxy.sai_api.readers import AnswerReader, read_model, read_usage
from sai_proxy.sai_api.server_sent_events import EventParser, ServerSentEvent

SAMPLING: Mapping[str, str] = {"temperature": "temperature", "max_tokens": "maxTokens"}
"""SAI's names of OpenAI's parameters."""

DEFAULT_MAX_TOKENS = 16_384
"""What the known caller sends."""

_CAN = Abilities(live=True, sampling=frozenset(SAMPLING), credentials=frozenset({"cookie"}))
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*")
_NO_LETTER = re.compile(r"[^a-z]")
_CHAR_BYTES = 4
_FAILED = ("error", "failed")
_fields_decoder = msgspec.json.Decoder(Fields)


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
        messages = [{"role": m.role, "content": m.text} for m in without_system(conversation[leading:])]
        body = {
            "messages": messages,
            "conversationId": None,
            "workspaceId": None,
            "createScheduledTaskEnabled": False,
            "parameters": parameters,
        }
        return msgspec.json.encode(body)

    def reader(self, headers: Mapping[str, str], custom_tools: Collection[str]) -> AnswerReader:  # noqa: ARG002
        is_json = headers.get("Content-Type", "").partition(";")[0].strip().lower() == "application/json"
        return StreamDocumentReader(headers) if is_json else StreamReader(headers)


class Closing:
    """What a closing event, or document, says. text: all of the answer, None if it does not say."""

    def __init__(self, fields: Fields) -> None:
        inner = fields_in(fields.get("response"))
        outer = {**fields, **inner}
        self.text = first_text(outer, ("items", "output", "output_text"))
        details = fields_in(outer.get("incomplete_details"))
        cut = text_in(outer.get("status")) == "incomplete"
        self.finish_reason = "length" if cut or is_truthy(details.get("reason")) else None
        self.model = text_in(outer.get("model"))
        usage = fields_in(outer.get("usage"))
        self.usage = Usage(count_in(usage, "input_tokens"), count_in(usage, "output_tokens"))


class StreamReader:
    """The events of one answer. Deltas go out as they come; what closes a part, an item or all of it brings what they
    did not. The text so far is known by its hash, not kept."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self.model = read_model(headers)
        self.usage: Usage = read_usage(headers)
        self.finish_reason: str | None = None
        self._parser = EventParser()
        self._closed = False
        self._chars = 0
        self._hash = hashlib.blake2b(digest_size=16)

    @property
    def held_bytes(self) -> int:
        return _CHAR_BYTES * self._parser.held_chars

    def feed(self, data: bytes) -> list[Event]:
        return [text for event in self._parser.feed(data) if (text := self._read(event))]

    def end(self) -> list[Event]:
        texts: list[Event] = [text for event in self._parser.end() if (text := self._read(event))]
        if not self._closed:
            raise UpstreamProtocolError(detail="SAI's stream ended without a closing event")
        return texts

    def _read(self, event: ServerSentEvent) -> str:
        if event.data == "[DONE]":
            self._closed = True
            return ""
        fields = _event_fields(event)
        kind = event.name if event.name != "message" else text_in(fields.get("type")) or ""
        match _NO_LETTER.sub("", kind.lower()).removeprefix("response"):
            case "outputtextdelta":
                return self._more(text_in(fields.get("delta")) or "")
            case "contentpartdone" | "outputtextdone":
                return self._whole(first_text(fields, ("part", "text")))
            case "outputitemdone":
                return self._whole(text_in(fields.get("item")))
            case "completed" | "incomplete":
                return self._close(Closing(fields))
            case "complete":
                return self._complete(text_in(fields.get("status")) or "")
            case kind if kind in _FAILED:
                raise UpstreamError({"status": 200}, detail=f"SAI's stream failed: {event.data[:MAX_DETAIL_CHARS]}")
        return ""

    def _close(self, closing: Closing) -> str:
        self._closed = True
        self.finish_reason = closing.finish_reason
        self.model = self.model or closing.model
        if closing.usage != Usage():
            self.usage = closing.usage
        return self._whole(closing.text)

    def _complete(self, status: str) -> str:
        if status not in ("", "finished", "completed"):
            raise UpstreamError({"status": 200}, detail=f"SAI's stream ended as '{status[:100]}'")
        self._closed = True
        return ""

    def _more(self, text: str) -> str:
        self._chars += len(text)
        self._hash.update(text.encode("utf-8", "surrogatepass"))
        return text

    def _whole(self, text: str | None) -> str:
        """What of the whole text has not come in deltas: the rest, if it goes on from them."""
        if not text or len(text) <= self._chars:
            return ""
        begun = hashlib.blake2b(text[: self._chars].encode("utf-8", "surrogatepass"), digest_size=16)
        return self._more(text[self._chars :]) if begun.digest() == self._hash.digest() else ""


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


def _event_fields(event: ServerSentEvent) -> Fields:
    try:
        return _fields_decoder.decode(event.data)
    except (msgspec.MsgspecError, RecursionError) as exc:
        if event.data.lstrip()[:1] == "{":
            raise UpstreamProtocolError(detail=f"an event '{event.name[:50]}' that is no JSON") from exc
        return {}
