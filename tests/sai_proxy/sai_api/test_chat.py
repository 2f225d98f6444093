import json
from typing import Any

import pytest

from sai_proxy import errors
from sai_proxy.sai_api.chat import ChatRoad
from tests.sai_proxy.sai_api.road_tests import read, request, route_to, said, text_of

ROUTE = route_to("chat", "t1")
JSON = {"Content-Type": "application/json; charset=utf-8"}


def messages(*turns: tuple[str, str]) -> list[tuple[str, str]]:
    conversation = said(*turns)
    body = json.loads(ChatRoad().payload(conversation, request(ROUTE, *conversation), 0))
    assert set(body) == {"messages"}
    return [(message["role"], message["content"]) for message in body["messages"]]


def test_it_asks_its_own_url() -> None:
    assert ChatRoad().url("https://s", ROUTE) == "https://s/api/templates/t1/chatexecute"


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        ([("user", "a")], [("user", "a")]),
        ([("system", "s"), ("system", "t"), ("user", "a")], [("user", "s\nt\na")]),
        ([("system", "s"), ("assistant", "a"), ("user", "b")], [("assistant", "a"), ("user", "s\nb")]),
        ([("user", "a"), ("system", "late"), ("user", "b")], [("user", "a"), ("user", "late\nb")]),
        ([("user", "a"), ("system", "last")], [("user", "a"), ("user", "last")]),
        ([("system", "alone")], [("user", "alone")]),
    ],
)
def test_system_text_goes_before_the_next_message_of_a_user(turns: list[Any], expected: list[Any]) -> None:
    assert messages(*turns) == expected


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ({"message": "a", "maxTokensExpired": False}, "a"),
        ({"message": {"content": "a"}}, "a"),
        ({"message": {"role": "assistant", "content": [{"type": "text", "text": "a"}, {"text": "b"}]}}, "ab"),
        ({"toolHistoryId": "x", "response": "a"}, "a"),
        ({"message": None, "answer": "a"}, "a"),
        ({"message": ""}, ""),
        ({"message": 'ñ "q" \u2028'}, 'ñ "q" \u2028'),
        ({"message": "half \ud800 pair"}, "half \ufffd pair"),
        ({"message": [{"type": "reasoning", "text": "hm"}, {"type": "text", "text": "a"}]}, "a"),
    ],
)
def test_the_text_is_found(document: Any, text: str) -> None:
    data = json.dumps(document).encode()
    for at in (0, 1, len(data) // 2, len(data)):
        reader = ChatRoad().reader(JSON, ())
        assert text_of(read(reader, data[:at], data[at:])) == text
        assert reader.finish_reason is None


def test_a_cut_text_is_told() -> None:
    reader = ChatRoad().reader(JSON, ())
    assert read(reader, b'{"message":"a","maxTokensExpired":true}') == ["a"]
    assert reader.finish_reason == "length"


@pytest.mark.parametrize(
    ("body", "headers"), [(b"plain text", {"Content-Type": "text/plain"}), (b'"plain text"', JSON)]
)
def test_bare_text_is_the_text(body: bytes, headers: dict[str, str]) -> None:
    assert text_of(read(ChatRoad().reader(headers, ()), body)) == "plain text"


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"message":"a', errors.UpstreamProtocolError),
        (b'{"other":1}', errors.UpstreamProtocolError),
        (b'{"error":"no credit"}', errors.UpstreamError),
        (b'{"message":' + b"[" * 100_000, errors.UpstreamProtocolError),
        (b"<html><body>Sign in</body></html>", errors.UpstreamProtocolError),
        (b'["cut', errors.UpstreamProtocolError),
        (b'{"message":[' + b"{}," * 500_000 + b"{}]}", errors.UpstreamProtocolError),
        (b'{"message":[' + b"0," * 500_000 + b"0]}", errors.UpstreamProtocolError),
        (b'{"message":"' + b"x" * 5_000_000 + b'"}', errors.UpstreamAnswerTooLong),
    ],
)
def test_what_is_no_answer_is_a_failure(body: bytes, kind: type[errors.ProxyError]) -> None:
    with pytest.raises(kind) as caught:
        read(ChatRoad().reader(JSON, ()), body)
    assert type(caught.value) is kind
