import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from sai_proxy import errors
from sai_proxy.conversation.chat import Route
from sai_proxy.conversation.events import CallArguments, CallBegin, CallEnd, Completed, Event, Gathering, ToolCall
from sai_proxy.conversation.offer import Tool, Toolset
from sai_proxy.errors.table import describe
from sai_proxy.openai_api.answer_format import AnswerFormat, written
from sai_proxy.openai_api.responses_endpoint import ResponsesEndpoint
from sai_proxy.openai_api.usage import usage_body
from sai_proxy.sai_api.text import text_decoder
from sai_proxy.tools.reading import CallReader
from tests.sai_proxy.openai_api.responses import DIGITS
from tests.support import check_schema, read_typed_events

TEXT = 'a "quoted" \\ line\nwith \u2028, \x00 and 😀'
CALLS = (
    ToolCall("call_1", "f", '{"a":1}'),
    ToolCall("call_2", "patch", "+x", "custom"),
    ToolCall("call_3", "agents.wait", "{}"),
)
TOOLS = [
    {"type": "function", "name": "f"},
    {"type": "custom", "name": "patch"},
    {"type": "namespace", "name": "agents", "description": "d", "tools": [{"type": "function", "name": "wait"}]},
    {"type": "web_search"},
]
REQUEST = {
    "input": "x",
    "instructions": "i",
    "tools": TOOLS,
    "tool_choice": "auto",
    "metadata": {"a": "b"},
    "text": {"verbosity": "low"},
    "max_output_tokens": 99,
    "temperature": 0.5,
}
EVENTS: TypeAdapter[ResponseStreamEvent] = TypeAdapter(ResponseStreamEvent)


def answer_to(**fields: Any) -> AnswerFormat:
    endpoint = ResponsesEndpoint({"m": Route("t")}, lambda: (DIGITS, 12), keeps=True)
    return endpoint.parse(json.dumps({"model": "m", **REQUEST, **fields}).encode()).answer


def events_of(made: list[Event], reason: str = "stop", *, chunk_chars: int = 256) -> list[Any]:
    """The events of a stream of these."""
    answer = answer_to(stream=True)
    stream = answer.opening(0)
    for event in made:
        stream += written(answer, 0, event, chunk_chars)
    stream += answer.finish(0, reason) + answer.closing(usage_body(3, 4))
    return read_typed_events(stream.decode())


def whole_of(made: list[Event], reason: str = "stop") -> Any:
    gathering = Gathering()
    for event in made:
        gathering.add(event)
    return json.loads(answer_to().whole([gathering.complete(reason)], usage_body(3, 4)))


ANSWERS: dict[str, tuple[list[Event], str]] = {
    "text": (["Hello ", TEXT], "stop"),
    "nothing": ([], "stop"),
    "cut text": (["Hello "], "length"),
    "filtered text": (["Hello "], "content_filter"),
    "calls": ([event for call in CALLS for event in call.events()], "tool_calls"),
    "text and a call": (["Let me look.", *CALLS[0].events()], "tool_calls"),
}

CUT = {"cut text": "max_output_tokens", "filtered text": "content_filter"}


@pytest.mark.parametrize("name", ANSWERS)
def test_the_answer_object_has_openais_shape(name: str) -> None:
    body = whole_of(*ANSWERS[name])
    check_schema("response", body)
    cut = CUT.get(name)
    assert body["status"] == ("incomplete" if cut else "completed")
    assert body["incomplete_details"] == ({"reason": cut} if cut else None)
    assert body["usage"] == {
        "input_tokens": 3,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 4,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 7,
    }


@pytest.mark.parametrize("given", [None, True, False])
def test_whether_calls_may_be_parallel_is_told_back(given: bool | None) -> None:
    body = json.loads(answer_to(parallel_tool_calls=given).whole([Completed("x", "stop")], usage_body(1, 1)))
    assert body["parallel_tool_calls"] is (given is not False)


def test_the_request_is_told_back() -> None:
    body = whole_of(["x"])
    for name in ("instructions", "tool_choice", "metadata", "max_output_tokens", "temperature"):
        assert body[name] == REQUEST[name]
    assert body["tools"][0] == {"parameters": None, "strict": None, "type": "function", "name": "f"}
    assert body["tools"][1:] == TOOLS[1:]
    assert body["text"] == {"verbosity": "low", "format": {"type": "text"}}
    assert (body["top_p"], body["truncation"], body["store"], body["previous_response_id"]) == (
        1.0,
        "disabled",
        True,
        None,
    )


@pytest.mark.parametrize("name", ANSWERS)
def test_every_event_is_as_openais_schema_and_library_have_it(name: str) -> None:
    for event in events_of(*ANSWERS[name]):
        check_schema("response_stream_event", event)
        EVENTS.validate_python(event)


@pytest.mark.parametrize("name", ANSWERS)
def test_the_last_event_holds_what_a_plain_answer_is(name: str) -> None:
    events = events_of(*ANSWERS[name])
    assert events[-1]["type"] == ("response.incomplete" if name in CUT else "response.completed")
    assert events[-1]["response"] == whole_of(*ANSWERS[name])


def test_items_are_opened_filled_and_closed_in_turn() -> None:
    events = events_of(["Let ", "me.", *CALLS[0].events(), *CALLS[1].events()], "tool_calls")
    assert [(event["type"].removeprefix("response."), event.get("output_index")) for event in events] == [
        ("created", None),
        ("in_progress", None),
        ("output_item.added", 0),
        ("content_part.added", 0),
        ("output_text.delta", 0),
        ("output_text.delta", 0),
        ("output_text.done", 0),
        ("content_part.done", 0),
        ("output_item.done", 0),
        ("output_item.added", 1),
        ("function_call_arguments.delta", 1),
        ("function_call_arguments.done", 1),
        ("output_item.done", 1),
        ("output_item.added", 2),
        ("custom_tool_call_input.delta", 2),
        ("custom_tool_call_input.done", 2),
        ("output_item.done", 2),
        ("completed", None),
    ]
    assert events[0]["response"]["output"] == []
    assert "usage" not in events[0]["response"]


def test_a_namespaces_call_is_taken_apart() -> None:
    (item,) = whole_of(CALLS[2].events(), "tool_calls")["output"]
    assert (item["namespace"], item["name"]) == ("agents", "wait")


def test_a_call_that_is_not_whole_is_never_done() -> None:
    """Codex runs a call as soon as it is."""
    answer = answer_to(stream=True)
    stream = answer.opening(0) + answer.begin_call(0, CallBegin("call_1", "f")) + answer.arguments(0, '{"a"')
    stream += answer.failure(describe(errors.ToolCallCut(), "en"))
    events = read_typed_events(stream.decode())
    assert "response.output_item.done" not in {event["type"] for event in events}
    assert events[-1]["type"] == "response.failed"
    assert events[-1]["response"]["output"] == []


@given(st.lists(st.text(min_size=1), max_size=6), st.integers(1, 5))
def test_however_a_text_is_cut_its_items_are_the_same(pieces: list[str], chunk_chars: int) -> None:
    whole = "".join(pieces)
    cut, joined = events_of([*pieces], chunk_chars=chunk_chars), events_of([whole] if whole else [])
    deltas = [event["delta"] for event in cut if event["type"] == "response.output_text.delta"]
    assert "".join(deltas) == whole
    assert all(len(delta) <= chunk_chars for delta in deltas)

    def rest(events: list[Any]) -> list[Any]:
        return [{**e, "sequence_number": 0} for e in events if e["type"] != "response.output_text.delta"]

    assert rest(cut) == rest(joined)


SAID = (
    "Lo sé: 18 °C 😀 en «Roma».",
    'Let me look. 😀\n{"tool_calls":[{"name":"f","arguments":{"a":"São 😀"}},{"name":"agents.wait","arguments":{}}]}',
    '```json\n{"name":"f","arguments":{"a":"}\\"{"}}\n```',
    "<tool_call><function=f><parameter=city>Rome</parameter></function></tool_call>",
    '{"name":"patch","arguments":{"input":"+é"}}',
    "no call: {name: f} ```json```",
)
TOOLSET = Toolset((Tool("f"), Tool("agents.wait"), Tool("patch", kind="custom")))


def told_of(pieces: list[bytes]) -> list[Any]:
    """The events of a stream whose text SAI sends in these pieces, ids of calls counted."""
    text, numbers = text_decoder("text/plain; charset=utf-8"), iter(range(99))
    reader = CallReader(TOOLSET, lambda: f"call_{next(numbers)}")
    made = [event for piece in pieces for event in reader.feed(text.feed(piece))]
    made += [*reader.feed(text.end()), *reader.end()]
    return events_of(made, "tool_calls" if any(isinstance(event, CallBegin) for event in made) else "stop")


@pytest.mark.parametrize("said", SAID)
@given(st.data())
def test_however_sais_bytes_are_cut_the_events_are_the_same(said: str, data: st.DataObject) -> None:
    body = said.encode()
    cuts = sorted(data.draw(st.sets(st.integers(1, len(body) - 1), max_size=12)))
    pieces = [body[start:end] for start, end in itertools.pairwise([0, *cuts, len(body)])]
    cut, joined = told_of(pieces), told_of([body])

    def without_pieces(events: list[Any]) -> list[Any]:
        """Each row of deltas as one, and events uncounted."""
        told: list[Any] = []
        for event in events:
            if told and event["type"].endswith(".delta") and told[-1]["type"] == event["type"]:
                told[-1]["delta"] += event["delta"]
            else:
                told.append({**event, "sequence_number": 0})
        return told

    assert [event["sequence_number"] for event in cut] == list(range(len(cut)))
    assert without_pieces(cut) == without_pieces(joined)


@given(st.lists(st.text(min_size=1), max_size=6))
def test_however_arguments_are_cut_the_call_is_the_same(pieces: list[str]) -> None:
    made: list[Event] = [CallBegin("call_1", "f"), *map(CallArguments, pieces), CallEnd()]
    assert events_of(made, "tool_calls")[-1]["response"] == whole_of(made, "tool_calls")


@pytest.mark.parametrize(
    ("said", "type_"),
    [
        ([], "response.in_progress"),
        (["x"], "response.output_text.delta"),
        ([CallBegin("call_1", "f")], "response.function_call_arguments.delta"),
        ([CallBegin("call_1", "patch", "custom")], "response.custom_tool_call_input.delta"),
    ],
)
def test_a_heartbeat_is_an_event_that_changes_nothing(said: list[Event], type_: str) -> None:
    answer = answer_to(stream=True)
    stream = answer.opening(0) + b"".join(written(answer, 0, event, 99) for event in said) + answer.heartbeat()
    *_, beat = read_typed_events(stream.decode())
    assert beat["type"] == type_
    assert beat.get("delta", "") == ""
    check_schema("response_stream_event", beat)


def test_between_two_items_a_heartbeat_has_all_that_is_closed() -> None:
    """openai-node goes on from what is in it."""
    answer = answer_to(stream=True)
    stream = answer.opening(0) + b"".join(written(answer, 0, event, 99) for event in ["x", *CALLS[0].events()])
    *seen, beat = read_typed_events((stream + answer.heartbeat()).decode())
    closed = [event["item"] for event in seen if event["type"] == "response.output_item.done"]
    assert (beat["type"], beat["response"]["status"]) == ("response.in_progress", "in_progress")
    assert [item["type"] for item in beat["response"]["output"]] == ["message", "function_call"]
    assert beat["response"]["output"] == closed
    check_schema("response_stream_event", beat)
    EVENTS.validate_python(beat)


@pytest.mark.parametrize(
    ("error", "code", "failed"),
    [
        (errors.UpstreamTimeout(), "upstream_timeout", "server_error"),
        (errors.UpstreamError({"status": 500}), "upstream_error", "server_error"),
        (errors.UpstreamUnavailable(retry_after_s=7), "upstream_unavailable", "server_error"),
        (errors.RateLimited(retry_after_s=7), "rate_limit_exceeded", "rate_limit_exceeded"),
        (errors.CredentialRejected(), "invalid_api_key", "invalid_prompt"),
        (errors.ContextLengthExceeded(), "context_length_exceeded", "invalid_prompt"),
        (errors.OutputMismatch({"problem": "x"}), "output_mismatch", "invalid_prompt"),
        (errors.InternalError(), "server_error", "server_error"),
    ],
)
def test_a_failure_is_told_in_both_ways(error: errors.ProxyError, code: str, failed: str) -> None:
    """Some clients look at the one, some at the other; Codex asks again or not by the second's code."""
    answer = answer_to(stream=True)
    stream = answer.opening(0) + answer.delta(0, "x") + answer.failure(describe(error, "en"))
    told, last = read_typed_events(stream.decode())[-2:]
    for event in (told, last):
        check_schema("response_stream_event", event)
        EVENTS.validate_python(event)
    assert told["type"] == "error"
    assert told["code"] == told["error"]["code"] == code
    assert last["type"] == "response.failed"
    assert last["response"]["status"] == "failed"
    assert last["response"]["error"]["code"] == failed
    said = last["response"]["error"]["message"]
    assert said.endswith("Please try again in 7s.") == isinstance(error, errors.RateLimited)
    assert answer.kept() is None


def test_a_failure_has_the_items_that_were_whole() -> None:
    answer = answer_to(stream=True)
    stream = answer.opening(0) + b"".join(written(answer, 0, event, 99) for event in ["x", *CALLS[0].events()])
    *seen, last = read_typed_events((stream + answer.failure(describe(errors.ToolCallCut(), "en"))).decode())
    assert last["response"]["output"] == [e["item"] for e in seen if e["type"] == "response.output_item.done"]
    assert [item["type"] for item in last["response"]["output"]] == ["message", "function_call"]


def test_what_no_repetition_helps_is_no_failure_of_the_server() -> None:
    """Agents repeat a 502 up to thirty times."""
    answer = answer_to()
    assert answer.refusal(describe(errors.OutputMismatch({"problem": "x"}), "en")).status == 400
    assert answer.refusal(describe(errors.UpstreamTlsError(), "en")).status == 400
    assert answer.refusal(describe(errors.UpstreamConflict(), "en")).status == 409
    assert answer.refusal(describe(errors.UpstreamTimeout(), "en")).status == 504
    assert answer.refusal(describe(errors.CredentialRejected(), "en")).status == 401


def test_what_is_told_back_is_accounted_for() -> None:
    assert answer_to(instructions="x" * 10_000).held_bytes > 3 * 10_000
    assert answer_to(input="x" * 10_000).held_bytes > 10_000
    assert answer_to(input="x" * 10_000, store=False).held_bytes < 10_000


def test_a_plain_answer_of_one_choice_alone_can_be_kept() -> None:
    answer = answer_to()
    assert answer.kept() is None
    body = answer.whole([Completed("said", "stop")], usage_body(1, 1))
    kept = answer.kept()
    assert kept is not None
    assert bytes(kept.response) == body
