"""What is noted down of an answer on its way, whole or streamed: the bytes that it holds, and how it has ended."""

import sys

import msgspec

from sai_proxy.conversation.events import CallArguments, Event
from sai_proxy.http.admission import Holding
from sai_proxy.openai_api.usage import UsageBody, usage_body
from sai_proxy.relay.choices import AnyChoices
from sai_proxy.telemetry.record import RequestRecord

ESCAPED_TIMES = 6
"""How many bytes a code point takes at most, escaped in JSON."""

NOT_WEIGHED_BYTES = 8 * 1024
"""A text that takes no more counts as the most that it may take: to weigh it would cost more than that is worth."""


def hold(holding: Holding, event: Event, times: int) -> None:
    """Account for an event's text, as many times as it will be there."""
    if isinstance(event, str | CallArguments):
        text = event if isinstance(event, str) else event.text
        size = ESCAPED_TIMES * len(text)
        if size > NOT_WEIGHED_BYTES:
            size = max(sys.getsizeof(text), len(msgspec.json.encode(text)))
        holding.grow_by_answer(times * size)


def note_end(record: RequestRecord, choices: AnyChoices) -> UsageBody:
    """Note down how an answer has ended, and return what it has used."""
    prompt, completion, estimated = choices.usage()
    record.prompt_tokens, record.completion_tokens, record.usage_estimated = prompt, completion, estimated
    record.sai_model = choices.model
    record.finish_reason = choices.finish_reason(0)
    return usage_body(prompt, completion)


def with_model(headers: dict[str, str], record: RequestRecord) -> dict[str, str]:
    """These headers, and which model SAI has used, if it says so."""
    return {**headers, "x-sai-model": record.sai_model} if record.sai_model else headers
