"""The one handler in front of SAI: it asks, and relays the answer, whole or as it comes."""

import asyncio
import logging
from collections.abc import Awaitable
from typing import TypeVar

from aiohttp import HttpVersion11, web
from aiohttp.typedefs import Handler

from sai_proxy import errors
from sai_proxy.keys import ANSWER, CHAT_REQUEST, CREDENTIALS, LIFECYCLE, METRICS, RECORD, UPSTREAM
from sai_proxy.openai_api import event_stream
from sai_proxy.openai_api.answer_format import deltas
from sai_proxy.openai_api.failures import FailurePolicy
from sai_proxy.openai_api.usage import UsageBody, usage_body
from sai_proxy.relay.choices import Choices, open_choices
from sai_proxy.relay.heartbeat import open_patiently, read_patiently
from sai_proxy.telemetry.record import RequestRecord

T = TypeVar("T")

logger = logging.getLogger(__name__)


def answer_handler(policy: FailurePolicy, *, heartbeat_s: float) -> Handler:
    """heartbeat_s: silence after which a stream's client hears something."""

    async def answer(request: web.Request) -> web.StreamResponse:
        if request[ANSWER].stream:
            return await StreamedAnswer(request, policy, heartbeat_s).run()
        return await _whole_answer(request)

    return answer


async def _open(request: web.Request) -> Choices:
    return await open_choices(request.app[UPSTREAM], request[CHAT_REQUEST], request[CREDENTIALS], request[RECORD])


async def _waiting(record: RequestRecord, waiting: Awaitable[T]) -> T:
    """The result of `waiting`, whose time counts as SAI's."""
    now = asyncio.get_running_loop().time
    start = now()
    try:
        return await waiting
    finally:
        record.sai_wait_s += now() - start


async def _whole_answer(request: web.Request) -> web.Response:
    with request.app[LIFECYCLE].running():
        record = request[RECORD]
        choices = await _waiting(record, _open(request))
        texts: list[list[str]] = [[] for _ in range(len(choices))]
        running = len(choices)
        try:
            while running:
                index, text = await _waiting(record, choices.read())
                if text is None:
                    running -= 1
                else:
                    _note_first_byte(request)
                    texts[index].append(text)
        finally:
            choices.close()
    usage = _note_end(request, choices)
    answers = [("".join(pieces), choices.finish_reason(index)) for index, pieces in enumerate(texts)]
    body = request[ANSWER].whole(answers, usage)
    return web.Response(body=body, content_type="application/json", headers=_model_header(choices))


class StreamedAnswer:
    """One answer as an event stream, at SAI's own pace.

    The status line waits for SAI's, so that a refusal keeps its own; only when SAI stays silent for
    a heartbeat's time is 200 sent, and failures from then on are an event.
    """

    def __init__(self, request: web.Request, policy: FailurePolicy, heartbeat_s: float) -> None:
        self._request = request
        self._answer = request[ANSWER]
        self._policy = policy
        self._heartbeat_s = heartbeat_s
        self._response = web.StreamResponse(headers=event_stream.HEADERS)
        self._text_sent = False

    async def run(self) -> web.StreamResponse:
        try:
            app = self._request.app
            with app[LIFECYCLE].running(), app[METRICS].streams_in_flight.track_inprogress():
                await self._relay()
        except errors.ProxyError as exc:
            if not self._response.prepared:
                raise
            await self._fail(exc)
        except ConnectionError:
            raise  # the client has left
        except Exception:
            if not self._response.prepared:
                raise
            logger.exception("unexpected error in mid-answer")
            await self._fail(errors.InternalError())
        return self._response

    async def _relay(self) -> None:
        record = self._request[RECORD]
        choices = await _waiting(record, open_patiently(_open(self._request), self._heartbeat_s, self._heartbeat))
        try:
            self._response.headers.update(_model_header(choices))
            await self._start()
            running = len(choices)
            while running:
                index, text = await _waiting(record, read_patiently(choices.read, self._heartbeat_s, self._heartbeat))
                if text is None:
                    running -= 1
                    end = self._answer.finish(index, choices.finish_reason(index))
                    if not running:
                        end += self._answer.closing(_note_end(self._request, choices))
                    await self._response.write(end)
                else:
                    _note_first_byte(self._request)
                    await self._response.write(deltas(self._answer, index, text, self._policy.chunk_chars))
                    self._text_sent = True
        finally:
            choices.close()

    async def _heartbeat(self) -> None:
        if self._response.prepared:
            await self._response.write(event_stream.KEEP_ALIVE)
        else:
            await self._start()

    async def _start(self) -> None:
        if not self._response.prepared:
            if self._request.version < HttpVersion11:
                self._response.force_close()  # without chunks only the connection's end is the stream's
            await self._response.prepare(self._request)
            count = self._request[CHAT_REQUEST].choices
            await self._response.write(b"".join(map(self._answer.opening, range(count))))

    async def _fail(self, error: errors.ProxyError) -> None:
        """The last event of an answer that will not be complete."""
        record, form = self._request[RECORD], self._policy.form(error)
        record.error = form.code or form.type
        record.fault = error.fault
        logger.warning("answer broke off", extra={"error": record.error, "detail": error.detail})
        await self._response.write(
            self._policy.last_events(error, self._answer, opened=True, text_sent=self._text_sent)
        )


def _note_first_byte(request: web.Request) -> None:
    record = request[RECORD]
    if record.first_byte is None:
        record.first_byte = asyncio.get_running_loop().time()


def _note_end(request: web.Request, choices: Choices) -> UsageBody:
    record = request[RECORD]
    prompt, completion, estimated = choices.usage(request[CHAT_REQUEST])
    record.prompt_tokens, record.completion_tokens, record.usage_estimated = prompt, completion, estimated
    record.sai_model = choices.model
    record.finish_reason = choices.finish_reason(0)
    return usage_body(prompt, completion)


def _model_header(choices: Choices) -> dict[str, str]:
    return {"x-sai-model": choices.model} if choices.model else {}
