"""The choices of one answer: SAI's replies to one request, read as one sequence of pieces."""

import asyncio
import logging
from collections import deque

from sai_proxy.conversation.events import CallArguments, CallBegin, CallEnd, Event
from sai_proxy.conversation.stop_sequences import TextEnd
from sai_proxy.openai_api.usage import complete_usage
from sai_proxy.sai_api.upstream import Reply

logger = logging.getLogger(__name__)


class Choice:
    """One choice's events as they come, and how it ended: all of an answer, or one of its `Choices`, whose members it
    has.

    index: its place among the choices. text_end: where its text ends, None where SAI ends it. prompt_chars: length of
    what was asked. lead: text that goes before SAI's and counts towards no limit.
    Stop sequences and limits of length concern text: a tool call is whole, or it is none.
    """

    __slots__ = ("_ended", "_finish_reason", "_index", "_prompt_chars", "_ready", "_reply", "_text_end", "chars")

    def __init__(self, index: int, reply: Reply, text_end: TextEnd | None, prompt_chars: int, lead: str = "") -> None:
        self._reply = reply
        self._prompt_chars = prompt_chars
        self.chars = 0
        self._finish_reason = "stop"
        self._index = index
        self._text_end = text_end
        self._ready: deque[Event] = deque([lead] if lead else [])
        self._ended = False

    def __len__(self) -> int:
        return 1

    @property
    def model(self) -> str | None:
        return self._reply.model

    def finish_reason(self, index: int = 0) -> str:  # noqa: ARG002
        return self._finish_reason

    def usage(self) -> tuple[int, int, bool]:
        return complete_usage(self._reply.usage, self._prompt_chars, self.chars, cut=self._cut)

    def close(self) -> None:
        self._reply.close()

    @property
    def _cut(self) -> bool:
        """Whether SAI had, or would have had, more to say."""
        return self._text_end is not None and self._text_end.finish_reason is not None

    @property
    def at_hand(self) -> bool:
        """Whether `read` need not wait for SAI. Of what is there the text's end may hold back all."""
        if self._ready or self._ended:
            return True
        return self._reply.at_hand if self._text_end is None else self._reply.complete

    def rest(self) -> list[Event] | None:
        """All that is left, if SAI has said all and it is short; None if it has to be read. Raises as `read` does."""
        if self._ready or self._ended or self._text_end is not None or (events := self._reply.rest()) is None:
            return None
        for event in events:
            if isinstance(event, str):
                self.chars += len(event)
            else:
                self._step(event)
        self._ready.clear()
        self._end()
        return events

    async def read(self) -> tuple[int, Event | None]:
        """The choice's place, and its next event, None at the end."""
        ready, text_end = self._ready, self._text_end
        while not ready:
            if self._ended:
                return self._index, None
            received = await self._reply.read()
            if isinstance(received, str):
                if text_end is None:
                    self.chars += len(received)
                    return self._index, received
                self._text(text_end.feed(received))
            elif received is None:
                self._end()
            else:
                self._step(received)
        return self._index, ready.popleft()

    def _end(self) -> None:
        if self._text_end is not None:
            self._text(self._text_end.end())
        self._ended = True
        if not self._cut and self._reply.finish_reason is not None:
            self._finish_reason = self._reply.finish_reason
        if not self.chars:
            logger.warning("SAI answered with no text")

    def _text(self, text: str) -> None:
        if text:
            self.chars += len(text)
            self._ready.append(text)
        if self._text_end is not None and self._text_end.finish_reason is not None:
            self._ended = True
            self._finish_reason = self._text_end.finish_reason
            self._reply.close()  # SAI need not go on

    def _step(self, event: CallBegin | CallArguments | CallEnd) -> None:
        if isinstance(event, CallBegin):
            if self._text_end is not None:
                self._text(self._text_end.end())
                if self._cut:
                    return
            self._finish_reason = "tool_calls"
        elif isinstance(event, CallArguments):
            self.chars += len(event.text)
        self._ready.append(event)


class Interleaved:
    """Several sources read at once, each at its own pace and none far ahead of the reader."""

    def __init__(self, sources: list[Choice]) -> None:
        self._pieces: asyncio.Queue[tuple[int, Event | None] | Exception] = asyncio.Queue(len(sources))
        self._pumps = [asyncio.ensure_future(self._pump(source)) for source in sources]

    async def read(self) -> tuple[int, Event | None]:
        piece = await self._pieces.get()
        if isinstance(piece, Exception):
            raise piece
        return piece

    def close(self) -> None:
        for pump in self._pumps:
            pump.cancel()

    async def _pump(self, source: Choice) -> None:
        event: Event | None = ""
        while event is not None:
            try:
                piece = await source.read()
            except Exception as exc:
                await self._pieces.put(exc)
                return
            _, event = piece
            await self._pieces.put(piece)


class Choices:
    """Several choices of an answer that SAI has begun.

    read: returns index and event of the next piece of any choice; None in place of the event at its end. Must be
        called until each has ended. Raises ProxyError.
    """

    __slots__ = ("_choices", "_interleaved", "read")

    at_hand = False
    """Nobody asks."""

    def __init__(self, choices: list[Choice]) -> None:
        self._choices = choices
        self._interleaved = Interleaved(choices)
        self.read = self._interleaved.read

    def __len__(self) -> int:
        return len(self._choices)

    def rest(self) -> None:
        """They have to be read: each is told of when it comes."""

    @property
    def model(self) -> str | None:
        return self._choices[0].model

    def finish_reason(self, index: int) -> str:
        return self._choices[index].finish_reason()

    def usage(self) -> tuple[int, int, bool]:
        """Prompt and completion tokens of all calls, and whether any is an estimate. Of a text that
        was cut SAI's count says nothing."""
        prompt = completion = 0
        estimated = False
        for choice in self._choices:
            asked, answered, is_estimate = choice.usage()
            prompt += asked
            completion += answered
            estimated = estimated or is_estimate
        return prompt, completion, estimated

    def close(self) -> None:
        self._interleaved.close()
        for choice in self._choices:
            choice.close()


AnyChoices = Choice | Choices
"""All of an answer."""
