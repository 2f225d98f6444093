"""The one handler in front of SAI: it asks, and relays the answer, whole or as it comes."""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import TypeVar

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from sai_proxy import errors
from sai_proxy.conversation.chat import ChatRequest
from sai_proxy.conversation.events import CallArguments, Event, Gathering, in_parts
from sai_proxy.credentials import usable_credentials
from sai_proxy.errors.wording import timeout_facts
from sai_proxy.http.admission import Holding
from sai_proxy.keys import ANSWER, CHAT_REQUEST, CREDENTIALS, HOLDING, KEEP, LIFECYCLE, METRICS, RECORD, UPSTREAM
from sai_proxy.openai_api import event_stream
from sai_proxy.openai_api.answer_format import written
from sai_proxy.openai_api.failures import FailurePolicy
from sai_proxy.openai_api.usage import UsageBody, usage_body
from sai_proxy.relay.choices import Asking, Choices, open_choices
from sai_proxy.relay.emulation import demand_of
from sai_proxy.relay.heartbeat import open_with_heartbeats, read_with_heartbeats
from sai_proxy.relay.writer import AnswerWriter
from sai_proxy.sai_api.upstream import Question, Upstream
from sai_proxy.telemetry.record import RequestRecord

T = TypeVar("T")

logger = logging.getLogger(__name__)

WRITTEN_CHARS = 8 * 1024
"""How much of a piece of text becomes events at once, which take many times its memory: a client that does not
read keeps no more of them waiting."""

REPETITIONS = 6
"""How often an answer's text is there at the end of a stream that repeats it: in pieces, joined, and as JSON in its
last events."""

WHOLE_HEADERS = {"Content-Type": "application/json"}


def answer_handler(policy: FailurePolicy, *, heartbeat_s: float, deadline_s: float) -> Handler:
    """heartbeat_s: silence after which a stream's client hears something. deadline_s: from a request's
    arrival to its answer's end, whatever it waits for."""

    async def answer(request: web.Request) -> web.StreamResponse:
        deadline = request[RECORD].started + deadline_s
        if request[ANSWER].stream:
            return await StreamedAnswer(request, policy, heartbeat_s, deadline, deadline_s).run()
        return await _whole_answer(request, deadline, deadline_s)

    return answer


async def _ask(request: web.Request, deadline: float) -> Choices:
    """Make SAI's questions of the request, let go of what they are made of, ask them, and let go of them."""
    chat, upstream = request[CHAT_REQUEST], request.app[UPSTREAM]
    credentials = usable_credentials(request[CREDENTIALS], chat.route.can.credentials)
    kept = sum(map(len, chat.echoes)) + request[ANSWER].held_bytes
    questions = await _questions(upstream, chat, request[HOLDING], kept)
    payloads = sum(len(question.payload) for question in questions)
    demand = demand_of(chat)
    if demand is not None:
        kept += payloads  # the conversation stays, since it may be asked about once more
    else:
        chat = chat.without_text()
    request[CHAT_REQUEST] = chat.without_text()
    request[HOLDING].settle(kept + payloads)
    try:
        asking = Asking(upstream, credentials, request[RECORD], request[HOLDING], deadline)
        return await open_choices(asking, questions, chat, demand)
    finally:
        for question in questions:
            question.release()
        request[HOLDING].grow(-payloads)  # and no more: what has come of the answer is accounted for already


async def _questions(upstream: Upstream, chat: ChatRequest, holding: Holding, kept: int) -> list[Question]:
    """SAI's questions of all conversations, each accounted for before the next is made. kept: bytes that are held
    beside them."""
    questions: list[Question] = []
    for conversation in chat.conversations:
        if questions:
            await asyncio.sleep(0)  # others have their turn
        questions.append(upstream.question(conversation, chat))
        holding.settle(kept + sum(len(question.payload) for question in questions))
    return questions


@asynccontextmanager
async def _within(deadline: float, seconds: float) -> AsyncIterator[None]:
    """Raises UpstreamTimeout when all the time that a request may take is over."""
    try:
        async with asyncio.timeout_at(deadline):
            yield
    except TimeoutError as exc:
        raise errors.UpstreamTimeout(timeout_facts(seconds), detail=f"REQUEST_DEADLINE, {seconds:g} s") from exc


async def _waiting(record: RequestRecord, waiting: Awaitable[T]) -> T:
    """The result of `waiting`, whose time counts as SAI's."""
    now = asyncio.get_running_loop().time
    start = now()
    try:
        return await waiting
    finally:
        record.sai_wait_s += now() - start


async def _whole_answer(request: web.Request, deadline: float, deadline_s: float) -> web.StreamResponse:
    writer, holding = AnswerWriter(request), request[HOLDING]
    with request.app[LIFECYCLE].running():
        async with _within(deadline, deadline_s):
            choices, gathered = await _gather(request, deadline)
        usage = _note_end(request, choices)
        body = request[ANSWER].whole(
            [one.complete(choices.finish_reason(index)) for index, one in enumerate(gathered)], usage
        )
        holding.settle(len(body))
        await _keep(request)
        await writer.write_whole(body, {**WHOLE_HEADERS, **_model_header(choices)})
    return writer.response


async def _gather(request: web.Request, deadline: float) -> tuple[Choices, list[Gathering]]:
    """All events of all choices, held within what is admitted."""
    record, holding = request[RECORD], request[HOLDING]
    choices = await _waiting(record, _ask(request, deadline))
    gathered = [Gathering() for _ in range(len(choices))]
    running = len(choices)
    try:
        while running:
            index, event = await _waiting(record, choices.read())
            if event is None:
                running -= 1
            else:
                _note_first_byte(request)
                _hold(holding, event, times=2)  # again when they are joined
                gathered[index].add(event)
    finally:
        choices.close()
    return choices, gathered


class StreamedAnswer:
    """One answer as an event stream, at SAI's own pace.

    The status line waits for SAI's, so that a refusal keeps its own; only when SAI stays silent for
    a heartbeat's time is 200 sent, and failures from then on are an event. Where tools or JSON are demanded it
    waits for what SAI has made of that.
    """

    def __init__(
        self, request: web.Request, policy: FailurePolicy, heartbeat_s: float, deadline: float, deadline_s: float
    ) -> None:
        self._request = request
        self._answer = request[ANSWER]
        self._policy = policy
        self._heartbeat_s = heartbeat_s
        self._deadline = deadline
        self._deadline_s = deadline_s
        self._writer = AnswerWriter(request)
        self._started = False
        chat = request[CHAT_REQUEST]
        self._demanding = demand_of(chat) is not None
        self._text_sent = False

    async def run(self) -> web.StreamResponse:
        try:
            app = self._request.app
            with app[LIFECYCLE].running(), app[METRICS].streams_in_flight.one_more():
                async with _within(self._deadline, self._deadline_s):
                    await self._relay()
                await self._writer.end()
        except errors.ProxyError as exc:
            if not self._writer.begun:
                raise
            await self._fail(exc)
        except ConnectionError:
            raise  # the client has left
        except Exception:
            if not self._writer.begun:
                raise
            logger.exception("unexpected error in mid-answer")
            await self._fail(errors.InternalError())
        return self._writer.response

    async def _relay(self) -> None:
        record, asking = self._request[RECORD], _ask(self._request, self._deadline)
        choices = await _waiting(record, open_with_heartbeats(asking, self._heartbeat_s, self._heartbeat))
        try:
            headers = _model_header(choices)
            if not self._demanding:
                await self._start(headers)
            running = len(choices)
            while running:
                index, event = await _waiting(
                    record, read_with_heartbeats(choices.read, self._heartbeat_s, self._heartbeat)
                )
                await self._start(headers)
                if event is None:
                    running -= 1
                    end = self._answer.finish(index, choices.finish_reason(index))
                    if not running:
                        end += self._answer.closing(_note_end(self._request, choices))
                        await _keep(self._request)
                    await self._writer.write(end)
                else:
                    _note_first_byte(self._request)
                    if self._answer.repeats:
                        _hold(self._request[HOLDING], event, REPETITIONS)
                    for part in in_parts(event, WRITTEN_CHARS):
                        if data := written(self._answer, index, part, self._policy.chunk_chars):
                            await self._writer.write(data)
                            self._text_sent = True
        finally:
            choices.close()

    async def _heartbeat(self) -> None:
        if self._started:
            await self._writer.write(self._answer.heartbeat())
        else:
            await self._start({})

    async def _start(self, headers: dict[str, str]) -> None:
        if self._started:
            return
        self._started = True
        first = b"".join(map(self._answer.opening, range(self._request[CHAT_REQUEST].choices)))
        await self._writer.start(first, {**event_stream.HEADERS, **headers}, heartbeat=event_stream.KEEP_ALIVE)

    async def _fail(self, error: errors.ProxyError) -> None:
        """The last event of an answer that will not be complete."""
        record, form = self._request[RECORD], self._policy.form(error)
        record.error = form.code or form.type
        record.fault = error.fault
        record.told = form.message
        logger.warning("answer broke off", extra={"error": record.error, "detail": error.detail})
        await self._writer.write(self._policy.last_events(error, self._answer, opened=True, text_sent=self._text_sent))
        await self._writer.end()


def _hold(holding: Holding, event: Event, times: int) -> None:
    """Account for an event's text, as many times as it will be there."""
    if isinstance(event, str | CallArguments):
        text = event if isinstance(event, str) else event.text
        size = sys.getsizeof(text)
        if not text.isprintable():  # escaped, it may take six times as much
            size = max(size, len(msgspec.json.encode(text)))
        holding.grow_by_answer(times * size)


async def _keep(request: web.Request) -> None:
    """Keep the answer, if it is one to keep, before its client knows that it is complete and may refer to it."""
    kept = request[ANSWER].kept()
    if kept is not None:
        await request[KEEP](kept)


def _note_first_byte(request: web.Request) -> None:
    record = request[RECORD]
    if record.first_byte is None:
        record.first_byte = asyncio.get_running_loop().time()


def _note_end(request: web.Request, choices: Choices) -> UsageBody:
    record = request[RECORD]
    prompt, completion, estimated = choices.usage()
    record.prompt_tokens, record.completion_tokens, record.usage_estimated = prompt, completion, estimated
    record.sai_model = choices.model
    record.finish_reason = choices.finish_reason(0)
    return usage_body(prompt, completion)


def _model_header(choices: Choices) -> dict[str, str]:
    return {"x-sai-model": choices.model} if choices.model else {}
