import json
from typing import Any

import pytest

from sai_proxy import errors
from sai_proxy.conversation.chat import Usage
from sai_proxy.sai_api.stream import StreamRoad
from tests.sai_proxy.sai_api.road_tests import read, request, route_to, said, text_of

ROUTE = route_to("stream", "claude-sonnet-4-6")
SSE = {"Content-Type": "text/event-stream", "model": "claude"}
TEXT = "one ñ 漢 two"
ITEM = {"role": "assistant", "content": [{"type": "output_text", "text": TEXT}]}


def events(*named: tuple[str, Any]) -> bytes:
    return "".join(f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n" for name, data in named).encode()


CREATED = ("responsecreated", {"type": "ResponseCreated"})
DELTAS = [("outputtextdelta", {"type": "OutputTextDelta", "delta": piece}) for piece in ("one ", "ñ 漢", " two")]
PART = ("contentpartdone", {"part": {"type": "output_text", "text": TEXT}})
DONE = ("outputitemdone", {"item": ITEM})
COMPLETED = ("responsecompleted", {"type": "ResponseCompleted", "items": [ITEM]})
COMPLETE = ("complete", {"status": "finished"})
OUTPUT = {"output": [{"type": "message", "content": ITEM["content"]}], "model": "m"}
USED = {"usage": {"input_tokens": 3, "output_tokens": 4}}

STREAMS: dict[str, bytes] = {
    "all": events(CREATED, *DELTAS, PART, DONE, COMPLETED, COMPLETE),
    "without complete": events(CREATED, *DELTAS, COMPLETED),
    "completed alone": events(CREATED, COMPLETED, COMPLETE),
    "as a response": events(("responsecompleted", {"type": "ResponseCompleted", "response": OUTPUT})),
    "item alone": events(DONE, COMPLETE),
    "part alone": events(PART, COMPLETE),
    "deltas and a closing event": events(*DELTAS, COMPLETE),
    "fewer deltas than text": events(*DELTAS[:1], COMPLETED),
    "without names": b"".join(f"data: {json.dumps(data)}\n\n".encode() for _, data in (CREATED, *DELTAS, COMPLETED)),
    "dotted names": events(*(("response.output_text.delta", data) for _, data in DELTAS), ("response.completed", {})),
    "unknown events": events(("somethingnew", {"a": 1}), *DELTAS, ("reasoningdelta", {"delta": "x"}), COMPLETE),
    "done": events(*DELTAS) + b"data: [DONE]\n\n",
}


@pytest.mark.parametrize("name", STREAMS)
def test_every_form_gives_the_text_once(name: str) -> None:
    stream = STREAMS[name]
    assert text_of(read(StreamRoad().reader(SSE, ()), stream)) == TEXT
    for at in range(0, len(stream), 7):
        assert text_of(read(StreamRoad().reader(SSE, ()), stream[:at], stream[at:])) == TEXT


def part(text: str) -> tuple[str, Any]:
    return "contentpartdone", {"part": {"type": "output_text", "text": text}}


def item(*texts: str, **more: Any) -> tuple[str, Any]:
    content = [{"type": "output_text", "text": text} for text in texts]
    return "outputitemdone", {"item": {"role": "assistant", "content": content, **more}}


def delta(text: str) -> tuple[str, Any]:
    return "outputtextdelta", {"delta": text}


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        ([part("AA"), part("BBBBBB"), COMPLETE], "AABBBBBB"),
        ([item("1"), item("12"), COMPLETE], "112"),
        ([delta("1"), part("1"), delta("2"), part("23"), item("1", "23"), COMPLETE], "123"),
        ([item("a"), ("responsecompleted", {"items": [], "response": OUTPUT})], "a"),
        ([("responsecompleted", {"items": [], "response": OUTPUT})], TEXT),
        ([item("hidden", type="reasoning"), item("a", type="message"), COMPLETE], "a"),
        ([item("said by the user", role="user"), item("a"), COMPLETE], "a"),
        ([delta("half \ud800"), COMPLETE], "half \ufffd"),
    ],
)
def test_parts_and_items_add_up(sent: list[tuple[str, Any]], text: str) -> None:
    stream = "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in sent).encode()
    assert text_of(read(StreamRoad().reader(SSE, ()), stream)) == text


def test_a_closing_event_is_the_end_whatever_follows() -> None:
    reader = StreamRoad().reader(SSE, ())
    assert text_of(reader.feed(events(*DELTAS, COMPLETED, delta("more")))) == TEXT
    assert reader.ended
    assert reader.end() == []


def test_what_was_said_before_a_failure_comes_before_it() -> None:
    reader = StreamRoad().reader(SSE, ())
    assert reader.feed(events(DELTAS[0], ("error", {"message": "no"}))) == ["one "]
    assert reader.ended
    with pytest.raises(errors.UpstreamError):
        reader.end()


def test_a_document_is_one_whatever_its_type_says() -> None:
    data = b"\xef\xbb\xbf \n" + json.dumps(COMPLETED[1]).encode()
    for at in (1, 3, 4, 6, 20):
        assert text_of(read(StreamRoad().reader(SSE, ()), data[:at], data[at:])) == TEXT


def test_an_event_without_an_end_is_bounded() -> None:
    reader = StreamRoad().reader(SSE, ())
    for _ in range(64):
        reader.feed(b"x" * 65_536)
    reader.feed(b"x")
    with pytest.raises(errors.UpstreamAnswerTooLong):
        reader.feed(b"x")


def test_a_delta_comes_out_at_once() -> None:
    reader = StreamRoad().reader(SSE, ())
    assert reader.feed(events(DELTAS[0])) == ["one "]
    assert reader.feed(events(DELTAS[1])) == ["ñ 漢"]
    assert reader.held_bytes == 0


def test_a_whole_that_contradicts_its_deltas_adds_nothing() -> None:
    """What has gone out cannot be taken back."""
    said_before = events(("outputtextdelta", {"delta": "something else"}), COMPLETED)
    assert text_of(read(StreamRoad().reader(SSE, ()), said_before)) == "something else"


@pytest.mark.parametrize("stream", [events(CREATED, *DELTAS), events(CREATED), b"", events(*DELTAS, PART, DONE)])
def test_an_end_without_a_closing_sign_is_a_cut(stream: bytes) -> None:
    with pytest.raises(errors.UpstreamProtocolError):
        read(StreamRoad().reader(SSE, ()), stream)


@pytest.mark.parametrize(
    "stream",
    [
        events(*DELTAS, ("error", {"message": "no"})),
        events(("responsefailed", {"response": {"error": {}}})),
        events(*DELTAS, ("complete", {"status": "failed"})),
        events(*DELTAS, ("responsecompleted", {"response": {"status": "failed", "output": []}})),
        events(*DELTAS, ("responsecompleted", {"response": {"status": "cancelled"}})),
    ],
)
def test_a_failure_in_the_stream_is_one(stream: bytes) -> None:
    with pytest.raises(errors.UpstreamError) as caught:
        read(StreamRoad().reader(SSE, ()), stream)
    assert type(caught.value) is errors.UpstreamError


def test_an_event_that_is_no_json_is_a_failure() -> None:
    with pytest.raises(errors.UpstreamProtocolError):
        read(StreamRoad().reader(SSE, ()), b'event: outputtextdelta\ndata: {"delta\n\n')


def test_what_it_says_beside_the_text_is_read() -> None:
    reader = StreamRoad().reader(SSE, ())
    cut = {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}, **OUTPUT, **USED}
    read(reader, events(("responsecompleted", {"response": cut})))
    assert (reader.finish_reason, reader.usage, reader.model) == ("length", Usage(3, 4), "claude")
    reader = StreamRoad().reader(SSE, ())
    filtered = {**OUTPUT, "status": "incomplete", "incomplete_details": {"reason": "content_filter"}}
    read(reader, events(("responseincomplete", {"response": filtered})))
    assert reader.finish_reason == "content_filter"


@pytest.mark.parametrize(
    "document",
    [COMPLETED[1], {"response": OUTPUT}, {"output_text": TEXT}, {"message": TEXT}, {"items": [ITEM], **USED}],
)
def test_one_document_may_come_in_place_of_events(document: Any) -> None:
    reader = StreamRoad().reader({"Content-Type": "application/json"}, ())
    data = json.dumps(document).encode()
    assert text_of(read(reader, data[:9], data[9:])) == TEXT


def test_a_document_without_a_text_is_a_failure() -> None:
    with pytest.raises(errors.UpstreamProtocolError):
        read(StreamRoad().reader({"Content-Type": "application/json"}, ()), b'{"id":1}')


def test_the_question() -> None:
    conversation = said(("system", "a"), ("system", "b"), ("user", "x"), ("assistant", "y"), ("user", "z"))
    asked = request(ROUTE, *conversation, sampling={"temperature": 0.5, "max_tokens": 99})
    body = json.loads(StreamRoad().payload(conversation, asked, 0))
    assert body["messages"] == [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": "y"},
        {"role": "user", "content": "z"},
    ]
    parameters = body["parameters"]
    assert parameters["instructions"] == "a\n\nb"
    assert (parameters["model"], parameters["temperature"], parameters["maxTokens"]) == ("claude-sonnet-4-6", 0.5, 99)
    assert parameters["enableStreaming"] is True
    assert StreamRoad().url("https://s", ROUTE) == "https://s/api/streaming-responses/stream"


def test_sampling_that_nobody_wants_is_not_made_up() -> None:
    conversation = said(("user", "x"))
    parameters = json.loads(StreamRoad().payload(conversation, request(ROUTE, *conversation), 0))["parameters"]
    assert "temperature" not in parameters
    assert parameters["maxTokens"] == 16_384
