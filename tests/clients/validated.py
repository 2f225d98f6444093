"""Every answer that a client's test provokes, checked against OpenAI's schemas where it is made."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from sai_proxy.http import error_responses
from sai_proxy.openai_api import answer_format
from sai_proxy.openai_api.chat_answer import ChatAnswer
from sai_proxy.openai_api.completion_answer import TextAnswer
from sai_proxy.openai_api.response_answer import ResponseAnswer
from tests.support import check_schema, read_events


def checked(function: Callable[..., bytes], schema: str, counter: list[int], *, events: bool) -> Callable[..., bytes]:
    """`function`, whose result must fit `schema`: one document, or events one by one."""

    def check(*arguments: Any, **options: Any) -> bytes:
        result = function(*arguments, **options)
        documents = read_events(_untyped(result)) if events else [json.loads(result)]
        for document in documents:
            if document != "[DONE]":
                check_schema(schema, document)
                counter[0] += 1
        return result

    return check


def _untyped(events: bytes) -> str:
    """The events without the line that names their type."""
    return re.sub(r"^event: .*\n", "", events.decode(), flags=re.MULTILINE)


@contextmanager
def every_answer_checked() -> Iterator[list[int]]:
    """Yields a list of one number: how many documents have been checked."""
    counter = [0]
    with pytest.MonkeyPatch.context() as patch:
        for answer, schema in ((ChatAnswer, "chat_completion"), (TextAnswer, "completion")):
            patch.setattr(answer, "whole", checked(answer.whole, schema, counter, events=False))
            for name in ("opening", "delta", "finish", "closing"):
                chunk = checked(getattr(answer, name), f"{schema}_chunk", counter, events=True)
                patch.setattr(answer, name, chunk)
        patch.setattr(ResponseAnswer, "whole", checked(ResponseAnswer.whole, "response", counter, events=False))
        for name in ("opening", "delta", "begin_call", "arguments", "end_call", "finish", "closing", "failure"):
            event = checked(getattr(ResponseAnswer, name), "response_stream_event", counter, events=True)
            patch.setattr(ResponseAnswer, name, event)
        for module in (answer_format, error_responses):
            patch.setattr(module, "error_body", checked(module.error_body, "error", counter, events=False))
        yield counter
