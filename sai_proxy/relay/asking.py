"""From a request to the answer that SAI has begun: its questions are made, asked with each credential in turn, and let
go."""

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from functools import partial
from typing import Any, NamedTuple

from aiohttp import web

from sai_proxy.conversation.chat import ChatRequest
from sai_proxy.conversation.stop_sequences import TextEnd
from sai_proxy.credentials import Credential, usable_credentials
from sai_proxy.errors import ContextLengthExceeded, RateLimited
from sai_proxy.http.admission import Holding
from sai_proxy.http.draining import Running
from sai_proxy.keys import ANSWER, CHAT_REQUEST, CREDENTIALS, HOLDING, RECORD, UPSTREAM
from sai_proxy.relay.choices import AnyChoices, Choice, Choices
from sai_proxy.relay.emulation import Demand, EmulatedReply, demand_of
from sai_proxy.relay.opening import open_all
from sai_proxy.sai_api.upstream import Question, Reply, Upstream
from sai_proxy.telemetry.record import RequestRecord
from sai_proxy.tools.asking import with_another_try

logger = logging.getLogger(__name__)


async def ask(request: web.Request, deadline: float, running: Running) -> AnyChoices:
    """Make SAI's questions of the request, let go of what they are made of, ask them, and let go of them."""
    chat, upstream, holding = request[CHAT_REQUEST], request.app[UPSTREAM], request[HOLDING]
    credentials = usable_credentials(request[CREDENTIALS], chat.route.can.credentials)
    kept = sum(map(len, chat.echoes)) + request[ANSWER].held_bytes
    if len(chat.conversations) == 1:
        questions = [upstream.question(chat.conversations[0], chat)]
        payloads = len(questions[0].payload)
    else:
        questions = await _questions(upstream, chat, holding, kept)
        payloads = sum(len(question.payload) for question in questions)
    demand = demand_of(chat)
    without_text = chat.without_text()
    if demand is not None:
        kept += payloads  # the conversation stays, since it may be asked about once more
    else:
        chat = without_text
    request[CHAT_REQUEST] = without_text
    holding.settle(kept + payloads)
    try:
        asking = Asking(upstream, credentials, request[RECORD], holding, deadline)
        await running.catch_up()
        return await _open_choices(asking, questions, chat, demand)
    finally:
        for question in questions:
            question.release()
        holding.grow(-payloads)  # and no more: what has come of the answer is accounted for already


async def _questions(upstream: Upstream, chat: ChatRequest, holding: Holding, kept: int) -> list[Question]:
    """SAI's questions of several conversations, each accounted for before the next is made. kept: bytes that are held
    beside them."""
    questions: list[Question] = []
    for conversation in chat.conversations:
        if questions:
            await asyncio.sleep(0)  # others have their turn
        questions.append(upstream.question(conversation, chat))
        holding.settle(kept + sum(len(question.payload) for question in questions))
    return questions


class Asking(NamedTuple):
    """What is the same for all choices of one request. deadline: of the loop's clock, for everything."""

    upstream: Upstream
    credentials: tuple[Credential, ...]
    record: RequestRecord
    holding: Holding
    deadline: float


async def _open_choices(
    asking: Asking, questions: Sequence[Question], chat: ChatRequest, demand: Demand | None
) -> AnyChoices:
    """Ask SAI for every choice at once, as many for each question. If one is refused, so is the request.

    demand: what is wanted beside text of a road that only writes text, None for nothing.
    """
    each = chat.choices // len(questions)
    asked = [question for question in questions for _ in range(each)]
    try:
        if len(asked) == 1:
            replies = [await ask_in_turn(asking, asked[0])]
        else:
            replies = await open_all([ask_in_turn(asking, question) for question in asked])
    except ContextLengthExceeded as exc:
        exc.param = chat.text_param
        raise
    choices = []
    for index, reply in enumerate(replies):
        if demand is not None:
            again = partial(_ask_again, asking, chat, index // each)
            reply = EmulatedReply(reply, demand, again, asking.record, asking.holding.grow_by_answer)
        text_end = TextEnd(chat.stops, chat.max_chars) if chat.stops or chat.max_chars is not None else None
        choices.append(Choice(index, reply, text_end, asked[index].chars, chat.echo_of(index)))
    return choices[0] if len(choices) == 1 else Choices(choices)


async def _ask_again(asking: Asking, chat: ChatRequest, number: int, answer: str, demanded: str) -> Reply:
    """Ask conversation `number` once more, with what the model answered and what is demanded instead."""
    conversation = with_another_try(chat.conversations[number], answer, demanded)
    question = asking.upstream.question(conversation, chat)
    size = len(question.payload)
    asking.holding.grow(size, alone=False)
    try:
        reply = await ask_in_turn(asking, question)
    finally:
        question.release()
    asking.holding.grow(-size)  # else the request ends, which gives back all of it
    return reply


def ask_in_turn(asking: Asking, question: Question) -> Coroutine[Any, Any, Reply]:
    """Ask with each credential until one is not over SAI's limit.

    Only a 429 leads to the next one: a refused credential is final, since another identity must
    not quietly take its place. Raises what the last one tried raised; if that is a 429, too, with the
    shortest wait of all.
    """
    upstream, credentials, record, holding, deadline = asking
    if len(credentials) > 1:
        return _ask_each(asking, question)
    record.credential = credentials[0].label
    return upstream.ask(question, credentials[0], record, deadline, holding.grow_by_answer)


async def _ask_each(asking: Asking, question: Question) -> Reply:
    upstream, credentials, record, holding, deadline = asking
    hold = holding.grow_by_answer
    waits: list[int] = []
    for credential in credentials[:-1]:
        record.credential = credential.label
        try:
            return await upstream.ask(question, credential, record, deadline, hold)
        except RateLimited as exc:
            record.fallback = True
            waits += [] if exc.retry_after_s is None else [exc.retry_after_s]
            if exc.detail:  # else it rests, and SAI was not asked
                logger.warning(
                    "SAI's limit reached, trying the next credential",
                    extra={"credential": credential.label, "detail": exc.detail},
                )
    last = credentials[-1]
    record.credential = last.label
    try:
        return await upstream.ask(question, last, record, deadline, hold)
    except RateLimited as exc:
        if exc.retry_after_s is not None:
            exc.retry_after_s = min([*waits, exc.retry_after_s])
        raise
