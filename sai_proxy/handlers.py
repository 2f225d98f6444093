"""The one handler in front of SAI: it asks, and relays the answer, whole or as it comes."""

import asyncio
import logging

from aiohttp import web
from aiohttp.typedefs import Handler

from sai_proxy import errors
from sai_proxy.choices import Choice, ask_in_turn
from sai_proxy.failures import FailurePolicy
from sai_proxy.keys import ANSWER, CHAT_REQUEST, CREDENTIALS, LIFECYCLE, RECORD, UPSTREAM
from sai_proxy.openai_api import event_stream
from sai_proxy.openai_api.usage import UsageBody, complete_usage, usage_body
from sai_proxy.patience import open_patiently, read_patiently

logger = logging.getLogger(__name__)


def answer_handler(policy: FailurePolicy, *, heartbeat_s: float, chunk_chars: int) -> Handler:
    """heartbeat_s: silence after which a stream's client hears something. chunk_chars: longest text
    of one delta, in code points."""

    async def answer(request: web.Request) -> web.StreamResponse:
        if request[CHAT_REQUEST].stream:
            return await StreamedAnswer(request, policy, heartbeat_s, chunk_chars).run()
        return await _whole_answer(request)

    return answer


async def _open_choice(request: web.Request) -> Choice:
    (question,) = request[CHAT_REQUEST].questions()
    return Choice(await ask_in_turn(request.app[UPSTREAM], question, request[CREDENTIALS], request[RECORD]))


async def _whole_answer(request: web.Request) -> web.Response:
    with request.app[LIFECYCLE].running():
        choice = await _open_choice(request)
        try:
            pieces: list[str] = []
            while (text := await choice.read()) is not None:
                _note_first_byte(request)
                pieces.append(text)
        finally:
            choice.close()
    body = request[ANSWER].whole([("".join(pieces), choice.finish_reason)], _note_end(request, choice))
    return web.Response(body=body, content_type="application/json", headers=_model_header(choice))


class StreamedAnswer:
    """One answer as an event stream, at SAI's own pace.

    The status line waits for SAI's, so that a refusal keeps its own; only when SAI stays silent for
    a heartbeat's time is 200 sent, and failures from then on are an event.
    """

    def __init__(self, request: web.Request, policy: FailurePolicy, heartbeat_s: float, chunk_chars: int) -> None:
        self._request = request
        self._answer = request[ANSWER]
        self._policy = policy
        self._heartbeat_s = heartbeat_s
        self._chunk_chars = chunk_chars
        self._response = web.StreamResponse(headers=event_stream.HEADERS)
        self._text_sent = False

    async def run(self) -> web.StreamResponse:
        try:
            with self._request.app[LIFECYCLE].running():
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
        choice = await open_patiently(_open_choice(self._request), self._heartbeat_s, self._heartbeat)
        try:
            self._response.headers.update(_model_header(choice))
            await self._start()
            while (text := await read_patiently(choice.read, self._heartbeat_s, self._heartbeat)) is not None:
                _note_first_byte(self._request)
                await self._response.write(self._deltas(text))
                self._text_sent = True
            usage = _note_end(self._request, choice)
            await self._response.write(self._answer.finish(0, choice.finish_reason) + self._answer.closing(usage))
        finally:
            choice.close()

    def _deltas(self, text: str) -> bytes:
        size = self._chunk_chars
        if len(text) <= size:
            return self._answer.delta(0, text)
        return b"".join(self._answer.delta(0, text[at : at + size]) for at in range(0, len(text), size))

    async def _heartbeat(self) -> None:
        if self._response.prepared:
            await self._response.write(event_stream.KEEP_ALIVE)
        else:
            await self._start()

    async def _start(self) -> None:
        if not self._response.prepared:
            await self._response.prepare(self._request)
            await self._response.write(self._answer.opening(0))

    async def _fail(self, error: errors.ProxyError) -> None:
        """The last event of an answer that will not be complete."""
        record, told = self._request[RECORD], self._policy.message(error)
        form = self._policy.form(error)
        record.error = form.code or form.type
        record.finish_reason = told.finish_reason if told else None
        logger.warning("answer broke off", extra={"error": record.error, "detail": error.detail})
        await self._response.write(
            self._policy.last_events(error, self._answer, opened=True, text_sent=self._text_sent)
        )


def _note_first_byte(request: web.Request) -> None:
    record = request[RECORD]
    if record.first_byte is None:
        record.first_byte = asyncio.get_running_loop().time()


def _note_end(request: web.Request, choice: Choice) -> UsageBody:
    record = request[RECORD]
    prompt, completion, estimated = complete_usage(choice.usage, request[CHAT_REQUEST].chars, choice.chars)
    record.prompt_tokens, record.completion_tokens, record.usage_estimated = prompt, completion, estimated
    record.sai_model = choice.model
    record.finish_reason = choice.finish_reason
    return usage_body(prompt, completion)


def _model_header(choice: Choice) -> dict[str, str]:
    return {"x-sai-model": choice.model} if choice.model else {}
