import pytest

from sai_proxy.sai_api.server_sent_events import EventParser, ServerSentEvent

STREAM = (
    "\ufeffevent: responsecreated\ndata: {}\n\n"
    ": a comment\n"
    "event:outputtextdelta\r\ndata: ñ 漢 😀\r\n\r\n"
    "data: one\rdata:  two\rid: 7\r\r"
    "event: nothing\n\n"
    "data\n\n"
    "data: [DONE]\n\n"
).encode()
EVENTS = [
    ServerSentEvent("responsecreated", "{}"),
    ServerSentEvent("outputtextdelta", "ñ 漢 😀"),
    ServerSentEvent("message", "one\n two"),
    ServerSentEvent("message", ""),
    ServerSentEvent("message", "[DONE]"),
]


def parsed(*pieces: bytes) -> list[ServerSentEvent]:
    parser = EventParser()
    events = [event for piece in pieces for event in parser.feed(piece)]
    events += parser.end()
    return events


def test_a_stream_is_its_events() -> None:
    assert parsed(STREAM) == EVENTS


@pytest.mark.parametrize("at", range(len(STREAM) + 1))
def test_however_it_is_cut_the_events_are_the_same(at: int) -> None:
    assert parsed(STREAM[:at], STREAM[at:]) == EVENTS


def test_byte_by_byte_the_events_are_the_same() -> None:
    assert parsed(*(STREAM[at : at + 1] for at in range(len(STREAM)))) == EVENTS


@pytest.mark.parametrize("end", [b"", b"\n", b"\r"])
def test_the_last_event_needs_no_blank_line(end: bytes) -> None:
    assert parsed(b"event: complete\ndata: {}" + end) == [ServerSentEvent("complete", "{}")]


def test_an_event_comes_out_with_its_last_byte() -> None:
    parser = EventParser()
    assert parser.feed(b"data: x\n") == []
    assert parser.feed(b"\n") == [ServerSentEvent("message", "x")]


def test_what_waits_is_counted_and_let_go() -> None:
    parser = EventParser()
    for _ in range(100):
        parser.feed(b"data: " + b"x" * 994)
    assert parser.held_chars == 100_000
    parser.feed(b"\n\n")
    assert parser.held_chars == 0
    for _ in range(50):
        parser.feed(b"data: xxx\n")
    assert parser.held_chars == 50 * 4
    parser.feed(b"\n")
    assert parser.held_chars == 0
