"""The answers of `POST /v1/responses`, whole and as events.

The grammar of the stream: `response.created` and `in_progress`; each item opened, filled and closed in turn; then
`completed` or `incomplete` with all of it. Clients read different ends of this: some deltas, some finished items,
some only the last event. A tool call is closed only when it is whole, since Codex runs it then.

Source: OpenAI's API reference and, for who breaks without what, its clients.
"""

from typing import Any

import msgspec
from msgspec import Raw

from sai_proxy.conversation.events import CallBegin, Completed, ToolCall
from sai_proxy.errors.table import ErrorForm
from sai_proxy.openai_api.event_stream import typed_event
from sai_proxy.openai_api.kept_responses import Kept
from sai_proxy.openai_api.response_object import (
    IncompleteDetails,
    Item,
    Outcome,
    OutputText,
    ResponseError,
    call_item,
    item_prefix,
    message_item,
    response_usage,
    whole_object,
)
from sai_proxy.openai_api.response_tools import ToolNames
from sai_proxy.openai_api.usage import UsageBody

_CUTS = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""This endpoint's words for the finish reasons of an answer that is not all there."""

_SLOT = "\x00"
_ENCODED_SLOT = msgspec.json.encode(_SLOT)


class ToKeep(msgspec.Struct):
    """What of the request is kept with the answer. input: JSON of the items that were new in it."""

    input: bytes
    ancestors: tuple[str, ...]


class ResponseAnswer:
    """One response.

    digits: of its id and its items'. told: JSON of what stands in each response object, without its last brace. names:
    of the tools. to_keep: None for an answer that is not kept.
    """

    tells_failures = False
    repeats = True

    def __init__(
        self, digits: str, model: str, told: bytes, *, stream: bool, names: ToolNames, to_keep: ToKeep | None = None
    ) -> None:
        self.model = model
        self.stream = stream
        self._digits = digits
        self._told = told
        self._names = names
        self._to_keep = to_keep
        self._sequence_number = 0
        self._items: list[bytes] = []
        self._message: _OpenMessage | None = None
        self._call: _OpenCall | None = None
        self._cut: str | None = None
        self._response = b""

    @property
    def held_bytes(self) -> int:
        """What is told back, also in the events that are on their way."""
        return 3 * len(self._told) + (len(self._to_keep.input) if self._to_keep else 0)

    def kept(self) -> Kept | None:
        """What later requests may refer to, once the answer is complete."""
        if self._to_keep is None or not self._response:
            return None
        return Kept(f"resp_{self._digits}", Raw(self._response), Raw(self._to_keep.input), self._to_keep.ancestors)

    def whole(self, choices: list[Completed], usage: UsageBody) -> bytes:
        (choice,) = choices
        self._cut = _CUTS.get(choice.finish_reason)
        if choice.text or not choice.calls:
            self._close(message_item(self._item_id(None), [choice.text], self._item_status))
        for call in choice.calls:
            self._close(call_item(self._item_id(call.kind), call, self._names, "completed"))
        self._response = self._object(usage)
        return self._response

    def opening(self, index: int) -> bytes:  # noqa: ARG002
        begun = Outcome(status="in_progress", output=[])
        return self._state("response.created", begun) + self._state("response.in_progress", begun)

    def delta(self, index: int, text: str) -> bytes:  # noqa: ARG002
        opened = b""
        if self._message is None:
            opened = self._open_message()
        message = self._message
        assert message is not None
        message.texts.append(text)
        return opened + self._piece(message.envelope, text)

    def begin_call(self, index: int, call: CallBegin) -> bytes:  # noqa: ARG002
        closed = self._close_message()
        name = self._item_id(call.kind)
        item = call_item(name, ToolCall(call.id, call.name, "", call.kind), self._names, "in_progress")
        kind = "custom_tool_call_input" if call.kind == "custom" else "function_call_arguments"
        self._call = _OpenCall(call, name, kind, self._envelope(f"response.{kind}.delta", item_id=name, delta=_SLOT))
        return closed + self._event("response.output_item.added", item=item)

    def arguments(self, index: int, text: str) -> bytes:  # noqa: ARG002
        assert self._call is not None
        self._call.arguments.append(text)
        return self._piece(self._call.envelope, text)

    def end_call(self, index: int) -> bytes:  # noqa: ARG002
        open_ = self._call
        assert open_ is not None
        arguments = "".join(open_.arguments)
        begun = open_.begun
        item = call_item(open_.id, ToolCall(begun.id, begun.name, arguments, begun.kind), self._names, "completed")
        whole: dict[str, Any] = {"item_id": open_.id}
        if begun.kind == "custom":
            whole["input"] = arguments
        else:
            whole.update(name=item.name, arguments=arguments)
        done = self._event(f"response.{open_.kind}.done", **whole)
        self._call = None
        return done + self._item_done(item)

    def finish(self, index: int, reason: str) -> bytes:  # noqa: ARG002
        self._cut = _CUTS.get(reason)
        opened = b"" if self._items or self._message is not None else self._open_message()
        return opened + self._close_message()

    def closing(self, usage: UsageBody) -> bytes:
        self._response = self._object(usage)
        return self._typed("response.incomplete" if self._cut else "response.completed", Raw(self._response))

    def heartbeat(self) -> bytes:
        """Something that clients count as a sign of life, which a comment is not to all of them. Some replace what
        they have gathered by what `in_progress` has in it: no item may be open, and none missing."""
        open_ = self._message or self._call
        if open_ is not None:
            return self._piece(open_.envelope, "")
        return self._state("response.in_progress", Outcome(status="in_progress", output=list(map(Raw, self._items))))

    def failure(self, form: ErrorForm) -> bytes:
        """Both as an error and as a failed response: each is all that some clients look at."""
        if self._response:  # the closing event was made, and has not gone out
            self._sequence_number -= 1
            self._response = b""
        told = {"type": form.type, "code": form.code or form.type, "message": form.message, "param": form.param}
        error = self._event_of({**told, "type": "error", "sequence_number": self._next(), "error": told})
        message = form.message
        if form.status == 429 and "Retry-After" in form.headers:
            message += f" Please try again in {form.headers['Retry-After']}s."  # which Codex reads and obeys
        failed = Outcome(
            status="failed", error=ResponseError(_failure_code(form), message), output=list(map(Raw, self._items))
        )
        return error + self._state("response.failed", failed)

    def refusal(self, form: ErrorForm) -> ErrorForm:
        """Agents ask thirty times more on a status that says that SAI has failed, whatever else is said. Those below
        keep theirs, by which SDKs tell their errors apart."""
        return form._replace(status=400) if form.final and form.status >= 500 else form

    @property
    def _item_status(self) -> str:
        return "incomplete" if self._cut else "completed"

    def _object(self, usage: UsageBody) -> bytes:
        return whole_object(
            self._told,
            Outcome(
                status=self._item_status,
                incomplete_details=IncompleteDetails(self._cut) if self._cut else None,
                output=list(map(Raw, self._items)),
                usage=response_usage(usage),
            ),
        )

    def _item_id(self, kind: Any) -> str:
        return f"{item_prefix(kind)}{self._digits}{len(self._items):02x}"

    def _open_message(self) -> bytes:
        name = self._item_id(None)
        envelope = self._envelope("response.output_text.delta", item_id=name, content_index=0, delta=_SLOT, logprobs=())
        self._message = _OpenMessage(name, envelope)
        return self._event("response.output_item.added", item=message_item(name, [], "in_progress")) + self._event(
            "response.content_part.added", item_id=name, content_index=0, part=OutputText(text="")
        )

    def _close_message(self) -> bytes:
        message, self._message = self._message, None
        if message is None:
            return b""
        text = "".join(message.texts)
        item = message_item(message.id, [text], self._item_status)
        place = {"item_id": message.id, "content_index": 0}
        return (
            self._event("response.output_text.done", **place, text=text, logprobs=())
            + self._event("response.content_part.done", **place, part=item.content[0])
            + self._item_done(item)
        )

    def _item_done(self, item: Item) -> bytes:
        event = self._event("response.output_item.done", item=item)
        self._close(item)
        return event

    def _close(self, item: Item) -> None:
        self._items.append(msgspec.json.encode(item))

    def _state(self, kind: str, outcome: Outcome) -> bytes:
        return self._typed(kind, Raw(whole_object(self._told, outcome)))

    def _typed(self, kind: str, response: Raw) -> bytes:
        return self._event_of({"type": kind, "sequence_number": self._next(), "response": response})

    def _event(self, kind: str, **fields: Any) -> bytes:
        """An event about the item that is open, or opened by it."""
        return self._event_of(
            {"type": kind, "sequence_number": self._next(), "output_index": len(self._items), **fields}
        )

    def _event_of(self, data: dict[str, Any]) -> bytes:
        return typed_event(data["type"], msgspec.json.encode(data))

    def _envelope(self, kind: str, **fields: Any) -> tuple[bytes, bytes, bytes]:
        """The bytes of a delta before its number, between that and its text, and after it."""
        data = {"type": kind, "sequence_number": 0, "output_index": len(self._items), **fields}
        head, tail = typed_event(kind, msgspec.json.encode(data)).rsplit(_ENCODED_SLOT, 1)
        before, between = head.split(b'"sequence_number":0', 1)
        return before + b'"sequence_number":', between, tail

    def _piece(self, envelope: tuple[bytes, bytes, bytes], text: str) -> bytes:
        before, between, after = envelope
        return b"%b%d%b%b%b" % (before, self._next(), between, msgspec.json.encode(text), after)

    def _next(self) -> int:
        number = self._sequence_number
        self._sequence_number += 1
        return number


class _OpenMessage:
    def __init__(self, id: str, envelope: tuple[bytes, bytes, bytes]) -> None:
        self.id = id
        self.envelope = envelope
        self.texts: list[str] = []


class _OpenCall:
    """kind: of its events."""

    def __init__(self, begun: CallBegin, id: str, kind: str, envelope: tuple[bytes, bytes, bytes]) -> None:
        self.begun = begun
        self.id = id
        self.kind = kind
        self.envelope = envelope
        self.arguments: list[str] = []


def _failure_code(form: ErrorForm) -> str:
    """One of the codes that a response object may have, such that clients ask again only where that may help:
    Codex gives up at `invalid_prompt`, and shows its message."""
    if form.status == 429:
        return "rate_limit_exceeded"
    return "invalid_prompt" if form.status < 500 or form.final else "server_error"
