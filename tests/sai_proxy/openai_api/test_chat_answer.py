import json

import pytest

from sai_proxy.conversation.events import CallBegin, Completed, ToolCall
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
    body = json.loads(ChatAnswer("chatcmpl-1", 12, "m").whole([Completed(TEXT, "stop")], usage_body(3, 4)))
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


CALLS = (ToolCall("call_1", "f", '{"a":1}'), ToolCall("call_2", "patch", "+x", "custom"))


@pytest.mark.parametrize("text", ["", "first"])
def test_whole_calls_have_openais_shape(text: str) -> None:
    body = json.loads(ChatAnswer("c", 1, "m").whole([Completed(text, "tool_calls", CALLS)], usage_body(1, 1)))
    choice = body["choices"][0]
    assert choice["message"]["content"] == (text or None)
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["tool_calls"] == [
        {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}},
        {"id": "call_2", "type": "custom", "custom": {"name": "patch", "input": "+x"}},
    ]
    check_schema("chat_completion", body)


def test_streamed_calls_name_themselves_once_and_count_from_0() -> None:
    answer = ChatAnswer("c", 1, "m")
    stream = answer.opening(0)
    for call in CALLS[:1] * 2:
        stream += answer.begin_call(0, CallBegin(call.id, call.name, call.kind))
        stream += answer.arguments(0, '{"a":') + answer.arguments(0, "1}") + answer.end_call(0)
    stream += answer.finish(0, "tool_calls")
    events = read_events(stream.decode())
    for event in events:
        check_schema("chat_completion_chunk", event)
    fragments = [event["choices"][0]["delta"].get("tool_calls") for event in events[1:-1]]
    assert [fragment[0]["index"] for fragment in fragments] == [0, 0, 0, 1, 1, 1]
    assert fragments[0][0] == {
        "index": 0,
        "id": "call_1",
        "type": "function",
        "function": {"name": "f", "arguments": ""},
    }
    assert fragments[1] == [{"index": 0, "function": {"arguments": '{"a":'}}]
    assert events[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_calls_of_deprecated_functions_have_the_older_form() -> None:
    answer = ChatAnswer("c", 1, "m", functions=True)
    body = json.loads(answer.whole([Completed("", "tool_calls", CALLS[:1])], usage_body(1, 1)))
    assert body["choices"][0]["message"]["function_call"] == {"name": "f", "arguments": '{"a":1}'}
    assert body["choices"][0]["finish_reason"] == "function_call"
    check_schema("chat_completion", body)
    stream = answer.begin_call(0, CallBegin("call_1", "f")) + answer.arguments(0, "{}") + answer.finish(0, "tool_calls")
    events = read_events(stream.decode())
    assert [event["choices"][0]["delta"].get("function_call") for event in events] == [
        {"name": "f", "arguments": ""},
        {"arguments": "{}"},
        None,
    ]
    assert events[-1]["choices"][0]["finish_reason"] == "function_call"
