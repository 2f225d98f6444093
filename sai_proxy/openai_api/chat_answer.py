"""The answers of `POST /v1/chat/completions`, whole and in chunks.

Wire types say the shape once; of a stream, the envelope of its chunks is encoded once, what is the same in all
streams once for all, and for each delta only its text.
"""

from functools import lru_cache
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from sai_proxy.conversation.events import CallBegin, Completed, ToolCall
from sai_proxy.openai_api.answer_format import Chunks
from sai_proxy.openai_api.event_stream import DONE, event
from sai_proxy.openai_api.usage import UsageBody


class Function(Struct, omit_defaults=True):
    """A function's name and arguments; of a fragment, what it brings."""

    name: str | UnsetType = UNSET
    arguments: str | UnsetType = UNSET


class Custom(Struct, omit_defaults=True):
    """The same of a custom tool."""

    name: str | UnsetType = UNSET
    input: str | UnsetType = UNSET


class AnsweredCall(Struct, omit_defaults=True, kw_only=True):
    """A tool call, or (with `index`) a fragment of one."""

    index: int | UnsetType = UNSET
    id: str | UnsetType = UNSET
    type: str | UnsetType = UNSET
    function: Function | UnsetType = UNSET
    custom: Custom | UnsetType = UNSET


class AssistantMessage(Struct, kw_only=True):
    role: str = "assistant"
    content: str | None
    refusal: None = None
    annotations: tuple[()] = ()
    tool_calls: list[AnsweredCall] | UnsetType = UNSET
    function_call: Function | UnsetType = UNSET


class Choice(Struct, kw_only=True):
    index: int
    message: AssistantMessage
    logprobs: None = None
    finish_reason: str


class ChatCompletion(Struct, kw_only=True):
    id: str
    object: str = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: UsageBody


class Delta(Struct, omit_defaults=True):
    role: str | UnsetType = UNSET
    content: str | UnsetType = UNSET
    refusal: UnsetType | None = UNSET
    tool_calls: list[AnsweredCall] | UnsetType = UNSET
    function_call: Function | UnsetType = UNSET


class ChunkChoice(Struct, kw_only=True):
    index: int
    delta: Delta
    logprobs: None = None
    finish_reason: str | None = None


class ChatCompletionChunk(Struct, kw_only=True):
    id: str
    object: str = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: UsageBody | UnsetType | None = UNSET


_SLOT = "\x00"
_ENCODED_SLOT = msgspec.json.encode(_SLOT)


class ChatAnswer(Chunks):
    """One chat completion; see `Chunks` for the arguments."""

    def __init__(
        self,
        id: str,
        created: int,
        model: str,
        *,
        stream: bool = False,
        include_usage: bool = False,
        functions: bool = False,
    ) -> None:
        super().__init__(id, created, model, stream=stream, include_usage=include_usage, functions=functions)
        self._envelope: tuple[bytes, bytes] | None = None
        self._calls: dict[int, tuple[int, CallBegin]] = {}

    def whole(self, choices: list[Completed], usage: UsageBody) -> bytes:
        bodies = [
            Choice(index=index, message=self._message(choice), finish_reason=self._reason(choice.finish_reason))
            for index, choice in enumerate(choices)
        ]
        return msgspec.json.encode(
            ChatCompletion(id=self.id, created=self.created, model=self.model, choices=bodies, usage=usage)
        )

    def opening(self, index: int) -> bytes:
        return self._event(_opening(index))

    def delta(self, index: int, text: str) -> bytes:
        head, tail = self._envelope or self._make_envelope()
        before, after = _around_text(index)
        return head + before + msgspec.json.encode(text) + after + tail

    def begin_call(self, index: int, call: CallBegin) -> bytes:
        position = self._calls[index][0] + 1 if index in self._calls else 0
        self._calls[index] = position, call
        if self.functions:
            return self._chunk([ChunkChoice(index=index, delta=Delta(function_call=Function(call.name, "")))])
        return self._call_chunk(index, AnsweredCall(index=position, id=call.id, type=call.kind, **_body(call, "")))

    def arguments(self, index: int, text: str) -> bytes:
        position, call = self._calls[index]
        if self.functions:
            return self._chunk([ChunkChoice(index=index, delta=Delta(function_call=Function(arguments=text)))])
        return self._call_chunk(index, AnsweredCall(index=position, **_fragment(call, text)))

    def end_call(self, index: int) -> bytes:  # noqa: ARG002
        """Nothing: the next call, or the choice's end, says it."""
        return b""

    def finish(self, index: int, reason: str) -> bytes:
        return self._event(_finish(index, self._reason(reason)))

    def _call_chunk(self, index: int, call: AnsweredCall) -> bytes:
        return self._chunk([ChunkChoice(index=index, delta=Delta(tool_calls=[call]))])

    def _message(self, choice: Completed) -> AssistantMessage:
        if not choice.calls:
            return AssistantMessage(content=choice.text)
        text = choice.text or None
        if self.functions:
            call = choice.calls[0]
            return AssistantMessage(content=text, function_call=Function(call.name, call.arguments))
        calls = [AnsweredCall(id=call.id, type=call.kind, **_body(call, call.arguments)) for call in choice.calls]
        return AssistantMessage(content=text, tool_calls=calls)

    def _reason(self, reason: str) -> str:
        return "function_call" if self.functions and reason == "tool_calls" else reason

    def closing(self, usage: UsageBody) -> bytes:
        return self._chunk([], usage) + DONE if self.include_usage else DONE

    def _chunk(self, choices: list[ChunkChoice], usage: UsageBody | None = None) -> bytes:
        if usage is None:
            return self._event(msgspec.json.encode(choices)[1:-1])
        return event(msgspec.json.encode(self._whole_chunk(choices, usage)))

    def _event(self, choice: bytes) -> bytes:
        head, tail = self._envelope or self._make_envelope()
        return head + choice + tail

    def _make_envelope(self) -> tuple[bytes, bytes]:
        """The bytes before and after a chunk's choices."""
        head, tail = event(msgspec.json.encode(self._whole_chunk([], None))).rsplit(b"[]", 1)
        self._envelope = made = head + b"[", b"]" + tail
        return made

    def _whole_chunk(self, choices: list[ChunkChoice], usage: UsageBody | None) -> ChatCompletionChunk:
        return ChatCompletionChunk(
            id=self.id,
            created=self.created,
            model=self.model,
            choices=choices,
            usage=usage if self.include_usage else UNSET,
        )


@lru_cache(maxsize=100)
def _opening(index: int) -> bytes:
    return msgspec.json.encode(ChunkChoice(index=index, delta=Delta(role="assistant", content="", refusal=None)))


@lru_cache(maxsize=100)
def _around_text(index: int) -> tuple[bytes, bytes]:
    """The bytes before and after a delta's text."""
    before, after = msgspec.json.encode(ChunkChoice(index=index, delta=Delta(content=_SLOT))).rsplit(_ENCODED_SLOT, 1)
    return before, after


@lru_cache(maxsize=100)
def _finish(index: int, reason: str) -> bytes:
    return msgspec.json.encode(ChunkChoice(index=index, delta=Delta(), finish_reason=reason))


def _body(call: CallBegin | ToolCall, arguments: str) -> dict[str, Any]:
    if call.kind == "custom":
        return {"custom": Custom(call.name, arguments)}
    return {"function": Function(call.name, arguments)}


def _fragment(call: CallBegin, text: str) -> dict[str, Any]:
    return {"custom": Custom(input=text)} if call.kind == "custom" else {"function": Function(arguments=text)}
