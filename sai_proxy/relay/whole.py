"""An answer that is sent when it is complete."""

from time import monotonic

from aiohttp import web

from sai_proxy.conversation.events import Event, Gathering
from sai_proxy.http.admission import Holding
from sai_proxy.http.draining import Running
from sai_proxy.keys import ANSWER, HOLDING, KEEP, RECORD
from sai_proxy.relay.asking import ask
from sai_proxy.relay.choices import AnyChoices
from sai_proxy.relay.notes import hold, note_end, with_model
from sai_proxy.relay.writer import AnswerWriter
from sai_proxy.telemetry.record import RequestRecord

WHOLE_HEADERS = {"Content-Type": "application/json"}


async def whole_answer(request: web.Request, deadline: float, running: Running) -> web.StreamResponse:
    """deadline: of the loop's clock."""
    record, holding, answer = request[RECORD], request[HOLDING], request[ANSWER]
    with running:
        asked = monotonic()
        try:
            choices = await ask(request, deadline, running)
            gathered = await _gathered(choices, record, holding)
        finally:
            record.sai_wait_s += monotonic() - asked
        running.end_deadline()
        usage = note_end(record, choices)
        body = answer.whole([one.complete(choices.finish_reason(index)) for index, one in enumerate(gathered)], usage)
        holding.settle(len(body))
        await running.catch_up()
        if (kept := answer.kept()) is not None:
            await request[KEEP](kept)  # before its client knows that it is complete and may refer to it
        writer = AnswerWriter(request)
        await writer.write_whole(body, with_model(WHOLE_HEADERS, record))
    return writer.response


async def _gathered(choices: AnyChoices, record: RequestRecord, holding: Holding) -> list[Gathering]:
    """All events of all choices, held within what is admitted."""
    gathered = [Gathering() for _ in range(len(choices))]
    left = len(gathered)

    def take(index: int, event: Event) -> None:
        if record.first_byte is None:
            record.first_byte = monotonic()
        hold(holding, event, times=2)  # again when they are joined
        gathered[index].add(event)

    try:
        if (rest := choices.rest()) is not None:
            for one in rest:
                take(0, one)
            left = 0
        while left:
            index, event = await choices.read()
            if event is None:
                left -= 1
            else:
                take(index, event)
    finally:
        choices.close()
    return gathered
