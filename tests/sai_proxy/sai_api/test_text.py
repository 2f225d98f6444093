import json

import pytest

from sai_proxy.errors import UpstreamProtocolError
from sai_proxy.sai_api.text import text_decoder

RICH = 'áé "x" \\ / \n\r\n\t 漢字 😀👩‍👩‍👧 \u2028 {"tool_calls": []}'
JSON_TYPE = "application/json; charset=utf-8"


def decode(body: bytes, content_type: str, size: int) -> str:
    decoder = text_decoder(content_type)
    pieces = [decoder.feed(body[at : at + size]) for at in range(0, len(body), size)]
    return "".join(pieces) + decoder.end()


@pytest.mark.parametrize("size", [1, 2, 3, 5, 1000])
@pytest.mark.parametrize(
    ("body", "content_type", "text"),
    [
        (RICH.encode(), "text/plain; charset=utf-8", RICH),
        (RICH.encode(), "text/plain", RICH),
        (RICH.encode(), "", RICH),
        ("áé".encode("latin-1"), "text/plain; charset=ISO-8859-1", "áé"),
        ("áé".encode(), "text/plain; charset=no-such-charset", "áé"),
        ("áé".encode(), "text/plain; charset=base64", "áé"),
        (b"a\xffb\xc3", "text/plain", "a\ufffdb\ufffd"),
        (json.dumps(RICH).encode(), JSON_TYPE, RICH),
        (json.dumps(RICH, ensure_ascii=False).encode(), JSON_TYPE, RICH),
        (b' \n "a"\n ', JSON_TYPE, "a"),
        (b'""', JSON_TYPE, ""),
        (rb'"\ud83d\ude00\u00e1\/"', JSON_TYPE, "😀á/"),
        (rb'"\ud83d x \ude00 \ud83d\u0041 \ud83d"', JSON_TYPE, "\ufffd x \ufffd \ufffdA \ufffd"),
        (b'{"a": "b"}', JSON_TYPE, '{"a": "b"}'),
        (b'  [1, "x"]', JSON_TYPE, '  [1, "x"]'),
        (b"   ", JSON_TYPE, "   "),
        (b"", JSON_TYPE, ""),
        (json.dumps(json.dumps("twice")).encode(), JSON_TYPE, '"twice"'),
        (b'"not json"', "text/plain", '"not json"'),
    ],
)
def test_text_is_the_same_however_the_network_cuts_it(body: bytes, content_type: str, text: str, size: int) -> None:
    assert decode(body, content_type, size) == text


def test_a_whole_character_is_not_held_back() -> None:
    decoder = text_decoder("text/plain")
    assert [decoder.feed(bytes([byte])) for byte in "aé".encode()] == ["a", "", "é"]


@pytest.mark.parametrize("body", [b'"cut off', b'"cut \\', b'"cut \\u12', b'"a" and more', rb'"\x"', rb'"\u12xy"'])
def test_a_json_string_that_is_none_is_a_malformed_answer(body: bytes) -> None:
    with pytest.raises(UpstreamProtocolError):
        decode(body, JSON_TYPE, 3)
