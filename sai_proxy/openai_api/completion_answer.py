"""The answers of `POST /v1/completions`, whole and in chunks of the same shape."""

import msgspec
from msgspec import UNSET, Struct, UnsetType

from sai_proxy.conversation.events import CallBegin, Completed
from sai_proxy.openai_api.answer_format import Chunks
from sai_proxy.openai_api.event_stream import DONE, event
from sai_proxy.openai_api.usage import UsageBody


class TextChoice(Struct, kw_only=True):
    index: int
    text: str
    logprobs: None = None
    finish_reason: str | None = None


class TextCompletion(Struct, kw_only=True):
    id: str
    object: str = "text_completion"
    created: int
    model: str
    choices: list[TextChoice]
    usage: UsageBody | UnsetType | None = UNSET


class TextAnswer(Chunks):
    """One legacy completion; see `Chunks` for the arguments."""

    def whole(self, choices: list[Completed], usage: UsageBody) -> bytes:
        bodies = [
            TextChoice(index=index, text=choice.text, finish_reason=choice.finish_reason)
            for index, choice in enumerate(choices)
        ]
        return msgspec.json.encode(self._completion(bodies, usage))

    def opening(self, index: int) -> bytes:
        """None: text alone makes a choice known."""
        return b""

    def delta(self, index: int, text: str) -> bytes:
        return self._chunk([TextChoice(index=index, text=text)])

    def begin_call(self, index: int, call: CallBegin) -> bytes:
        raise NotImplementedError("this endpoint offers no tools")

    def arguments(self, index: int, text: str) -> bytes:
        raise NotImplementedError("this endpoint offers no tools")

    def end_call(self, index: int) -> bytes:
        raise NotImplementedError("this endpoint offers no tools")

    def finish(self, index: int, reason: str) -> bytes:
        return self._chunk([TextChoice(index=index, text="", finish_reason=reason)])

    def closing(self, usage: UsageBody) -> bytes:
        return self._chunk([], usage) + DONE if self.include_usage else DONE

    def _chunk(self, choices: list[TextChoice], usage: UsageBody | None = None) -> bytes:
        return event(msgspec.json.encode(self._completion(choices, usage if self.include_usage else UNSET)))

    def _completion(self, choices: list[TextChoice], usage: UsageBody | UnsetType | None) -> TextCompletion:
        return TextCompletion(id=self.id, created=self.created, model=self.model, choices=choices, usage=usage)
