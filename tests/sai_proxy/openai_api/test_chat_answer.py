import json

import pytest

from sai_proxy.openai_api.chat_answer import ChatAnswer
from sai_proxy.openai_api.usage import usage_body
from tests.support import check_schema, read_events

TEXT = 'a "quoted" \\ line\nwith \u2028, \x00 and 😀'


def whole_stream(answer: ChatAnswer) -> bytes:
    usage = usage_body(3, 4)
    return (
        answer.opening(0)
        + answer.delta(0, "Hello ")
        + answer.delta(0, TEXT)
        + answer.finish(0, "stop")
        + answer.closing(usage)
    )


def test_a_whole_answer_has_openais_shape() -> None:
    body = json.loads(ChatAnswer("chatcmpl-1", 12, "m").whole([(TEXT, "stop")], usage_body(3, 4)))
    assert body["choices"][0]["message"] == {"role": "assistant", "content": TEXT, "refusal": None, "annotations": []}
    assert body["choices"][0]["finish_reason"] == "stop"
    assert body["usage"]["total_tokens"] == 7
    check_schema("chat_completion", body)


@pytest.mark.parametrize("include_usage", [False, True])
def test_a_stream_has_openais_order_and_shape(include_usage: bool) -> None:
    events = read_events(whole_stream(ChatAnswer("chatcmpl-1", 12, "m", include_usage=include_usage)).decode())
    assert events.pop() == "[DONE]"
    if include_usage:
        last = events.pop()
        assert last["choices"] == []
        assert last["usage"]["total_tokens"] == 7
    deltas = [event["choices"][0]["delta"] for event in events]
    assert deltas == [
        {"role": "assistant", "content": "", "refusal": None},
        {"content": "Hello "},
        {"content": TEXT},
        {},
    ]
    assert [event["choices"][0]["finish_reason"] for event in events] == [None, None, None, "stop"]
    for event in events:
        assert (event["id"], event["created"], event["model"]) == ("chatcmpl-1", 12, "m")
        assert event["choices"][0]["logprobs"] is None
        assert event.get("usage", "absent") == (None if include_usage else "absent")
    for event in events:
        check_schema("chat_completion_chunk", event)


def test_choices_are_told_apart_by_their_index() -> None:
    answer = ChatAnswer("chatcmpl-1", 12, "m")
    events = read_events((answer.delta(1, "b") + answer.delta(0, "a") + answer.delta(1, "c")).decode())
    assert [event["choices"][0]["index"] for event in events] == [1, 0, 1]
