"""An answer that is sent as it comes."""

import logging
from time import monotonic

from aiohttp import web

from sai_proxy import errors
from sai_proxy.conversation.events import Event, in_parts
from sai_proxy.http.draining import Running
from sai_proxy.keys import ANSWER, CHAT_REQUEST, HOLDING, KEEP, METRICS, RECORD
from sai_proxy.openai_api import event_stream
from sai_proxy.openai_api.answer_format import written
from sai_proxy.openai_api.failures import FailurePolicy
from sai_proxy.relay.asking import ask
from sai_proxy.relay.emulation import demand_of
from sai_proxy.relay.heartbeat import Heartbeat
from sai_proxy.relay.notes import hold, note_end, with_model
from sai_proxy.relay.writer import AnswerWriter
from sai_proxy.timeouts import Timeouts

logger = logging.getLogger(__name__)

WRITTEN_CHARS = 8 * 1024
"""How much of a piece of text becomes events at once, which take many times its memory: a client that does not
read keeps no more of them waiting."""

REPETITIONS = 6
"""How often an answer's text is there at the end of a stream that repeats it: in pieces, joined, and as JSON in its
last events."""


class StreamedAnswer:
    """One answer as an event stream, at SAI's own pace.

    The status line waits for SAI's, so that a refusal keeps its own; only when SAI stays silent for
    a heartbeat's time is 200 sent, and failures from then on are an event. Where tools or JSON are demanded it
    waits for what SAI has made of that. What is there at once goes out at once: the beginning with the first
    piece, the last events with the end.
    """

    __slots__ = (
        "_answer",
        "_choices",
        "_deadline",
        "_demanding",
        "_headers",
        "_heartbeat",
        "_opening",
        "_pending",
        "_policy",
        "_record",
        "_request",
        "_started",
        "_text_sent",
        "_writer",
    )

    def __init__(
        self,
        request: web.Request,
        policy: FailurePolicy,
        heartbeat_s: float,
        deadline: float,
        heartbeats: Timeouts,
    ) -> None:
        self._request = request
        self._record = request[RECORD]
        self._answer = request[ANSWER]
        self._choices = request[CHAT_REQUEST].choices
        self._demanding = demand_of(request[CHAT_REQUEST]) is not None
        self._policy = policy
        self._deadline = deadline
        self._writer = AnswerWriter(request)
        self._heartbeat = Heartbeat(heartbeat_s, self._beat, heartbeats)
        self._headers = event_stream.HEADERS
        self._opening: bytes | None = None
        self._pending = b""
        self._started = False
        self._text_sent = False

    async def run(self, running: Running) -> web.StreamResponse:
        streams = self._request.app[METRICS].streams_in_flight
        streams.add(1)
        try:
            with running:
                await self._relay(running)
                running.end_deadline()
                await self._end()
        except errors.ProxyError as exc:
            if not await self._has_begun():
                raise
            await self._fail(exc)
        except ConnectionError:
            raise  # the client has left
        except Exception:
            if not await self._has_begun():
                raise
            logger.exception("unexpected error in mid-answer")
            await self._fail(errors.InternalError())
        finally:
            streams.add(-1)
            await self._heartbeat.stop()
        return self._writer.response

    async def _relay(self, running: Running) -> None:
        """All of it; what did not have to wait for anything is pending in the end."""
        record, answer = self._record, self._answer
        asked = monotonic()
        try:
            choices = await ask(self._request, self._deadline, running)
        finally:
            record.sai_wait_s += monotonic() - asked
        try:
            self._open()
            record.sai_model = choices.model
            self._headers = with_model(event_stream.HEADERS, record)
            if not (self._demanding or choices.at_hand):
                self._heartbeat.soon()  # nothing is there that could go out with it
            left = len(choices)
            if (rest := choices.rest()) is not None:
                for one in rest:
                    await self._tell(0, one)
                finish, left = answer.finish(0, choices.finish_reason(0)), 0
            while left:
                if self._pending and not (choices.at_hand and len(self._pending) < WRITTEN_CHARS):
                    await self._flush()
                asked = monotonic()
                try:
                    index, event = await choices.read()
                finally:
                    record.sai_wait_s += monotonic() - asked
                if event is not None:
                    await self._tell(index, event)
                    continue
                left -= 1
                finish = answer.finish(index, choices.finish_reason(index))
                if left:
                    self._pending += finish
            await running.catch_up()
            closing = answer.closing(note_end(record, choices))
            if (kept := answer.kept()) is not None:
                if self._pending:
                    await self._flush()
                if (beating := self._heartbeat.pause()) is not None:  # another's number would be out of turn
                    await beating
                self._pending = finish
                await self._request[KEEP](kept)  # before its client knows that it is complete and may refer to it
                self._pending += closing
            else:
                self._pending += finish + closing
        finally:
            choices.close()

    async def _tell(self, index: int, event: Event) -> None:
        if self._record.first_byte is None:
            self._record.first_byte = monotonic()
        if self._answer.repeats:
            hold(self._request[HOLDING], event, REPETITIONS)
        for part in in_parts(event, WRITTEN_CHARS):
            if len(self._pending) >= WRITTEN_CHARS:
                await self._flush()
            if data := written(self._answer, index, part, self._policy.chunk_chars):
                self._pending += data
                self._text_sent = True

    async def _flush(self) -> None:
        """Write what is pending."""
        if (beating := self._heartbeat.pause()) is not None:
            await beating
        data, self._pending = self._pending, b""
        if self._started:
            await self._writer.write(data)
        else:
            await self._start(data)
        self._heartbeat.heard()

    async def _end(self) -> None:
        """Write what is pending, and that this is the end."""
        if (beating := self._heartbeat.pause()) is not None:
            await beating
        data, self._pending = self._pending, b""
        if self._started:
            await self._writer.end(data)
        else:
            self._started = True
            opening, self._opening = self._opening or b"", b""
            await self._writer.write_all(opening + data, self._headers)

    async def _beat(self) -> None:
        if self._started:
            await self._writer.write(self._answer.heartbeat())
        else:
            self._open()
            await self._start(b"")

    def _open(self) -> None:
        """Make the first events, which come before all others."""
        if self._opening is None:
            self._opening = b"".join(map(self._answer.opening, range(self._choices)))

    async def _start(self, data: bytes) -> None:
        self._started = True
        opening, self._opening = self._opening or b"", b""
        await self._writer.start(opening + data, self._headers, heartbeat=event_stream.KEEP_ALIVE)

    async def _has_begun(self) -> bool:
        """Whether anything of an answer that has failed has come: what is pending goes out."""
        await self._heartbeat.stop()
        if self._pending:
            await self._flush()
        return self._writer.begun

    async def _fail(self, error: errors.ProxyError) -> None:
        """The last event of an answer that will not be complete."""
        if self._writer.ended:
            raise ConnectionAbortedError("the client did not take the end of its answer") from error
        record, form = self._record, self._policy.form(error)
        record.error = form.code or form.type
        record.fault = error.fault
        record.told = form.message
        logger.warning("answer broke off", extra={"error": record.error, "detail": error.detail})
        await self._writer.end(self._policy.last_events(error, self._answer, opened=True, text_sent=self._text_sent))
