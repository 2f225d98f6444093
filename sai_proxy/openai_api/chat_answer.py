"""The answers of `POST /v1/chat/completions`, whole and in chunks.

Wire types say the shape once; the stream's writer encodes the envelope of a chunk once per answer
and only the text anew for each delta.
"""

import msgspec
from msgspec import UNSET, Struct, UnsetType

from sai_proxy.openai_api.event_stream import DONE, event
from sai_proxy.openai_api.usage import UsageBody


class AssistantMessage(Struct, kw_only=True):
    role: str = "assistant"
    content: str
    refusal: None = None
    annotations: tuple[()] = ()


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


class ChatAnswer:
    """One chat completion.

    created: Unix seconds. include_usage: a usage chunk before `[DONE]`, and `usage: null` on all
    others, as the API reference says of `stream_options.include_usage`.
    """

    def __init__(self, id: str, created: int, model: str, *, stream: bool = False, include_usage: bool = False) -> None:
        self.id = id
        self.created = created
        self.model = model
        self.stream = stream
        self.include_usage = include_usage
        self._envelopes: dict[int, tuple[bytes, bytes]] = {}

    def whole(self, choices: list[tuple[str, str]], usage: UsageBody) -> bytes:
        bodies = [
            Choice(index=index, message=AssistantMessage(content=text), finish_reason=reason)
            for index, (text, reason) in enumerate(choices)
        ]
        return msgspec.json.encode(
            ChatCompletion(id=self.id, created=self.created, model=self.model, choices=bodies, usage=usage)
        )

    def opening(self, index: int) -> bytes:
        return self._chunk([ChunkChoice(index=index, delta=Delta(role="assistant", content="", refusal=None))])

    def delta(self, index: int, text: str) -> bytes:
        head, tail = self._envelopes.get(index) or self._envelope(index)
        return head + msgspec.json.encode(text) + tail

    def finish(self, index: int, reason: str) -> bytes:
        return self._chunk([ChunkChoice(index=index, delta=Delta(), finish_reason=reason)])

    def closing(self, usage: UsageBody) -> bytes:
        if not self.include_usage:
            return DONE
        return self._chunk([], usage) + DONE

    def _chunk(self, choices: list[ChunkChoice], usage: UsageBody | None = None) -> bytes:
        chunk = ChatCompletionChunk(
            id=self.id,
            created=self.created,
            model=self.model,
            choices=choices,
            usage=usage if self.include_usage else UNSET,
        )
        return event(msgspec.json.encode(chunk))

    def _envelope(self, index: int) -> tuple[bytes, bytes]:
        """The bytes before and after a delta's text."""
        head, tail = self._chunk([ChunkChoice(index=index, delta=Delta(content=_SLOT))]).rsplit(_ENCODED_SLOT, 1)
        self._envelopes[index] = head, tail
        return head, tail
