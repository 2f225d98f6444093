"""Bytes of SAI's that are nearly an answer."""

import gzip
import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.fuzz.mutations import cut, mutated_bytes
from tests.fuzz.server import GOOD, FuzzedServer, RawSai, request
from tests.support import ROOT, chat, content_of, read_events

CORPUS = sorted((ROOT / "tests/fuzz/corpus/answers").iterdir())
numbers = itertools.count()

CODINGS = ["gzip", "deflate", "br", "identity", "gzip, gzip", "GZIP"]
TYPES = [
    "text/plain",
    "text/plain; charset=utf-16-le",
    "application/json",
    "text/html",
    "multipart/x; boundary=b",
    "text/event-stream",
    ";;charset=",
    "text/plain; charset=zlib",
]
STATUSES = ["200 OK", "200", "204 None", "206 Part", "301 Moved", "304 No", "401 No", "403 No", "404 No", "429 No"]
STATUSES += ["500 No", "503 No", "600 No", "099 No", "101 Switching Protocols", "100 Continue"]
BODIES = [
    b"",
    b"hi",
    b'"hi"',
    b'"cut',
    "á😀".encode(),
    "á".encode("utf-16"),
    gzip.compress(b"hi", mtime=0),
    b"\x1f\x8b\x08",
]
ODD_FIELDS = [
    "prompttokens: 99999999999",
    "completiontokens: -1",
    "model: x\ty",
    "Retry-After: Fri, 31 Dec 9999 23:59:59 GMT",
    "Location: https://login.microsoftonline.com/",
    "Connection: close",
    "Connection: Upgrade\r\nUpgrade: websocket",
    "Set-Cookie: a=b",
    "Trailer: x",
    "Keep-Alive: timeout=0",
]


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    """A response made of parts that do not quite fit, or bytes of one that does."""
    body = draw(st.sampled_from(BODIES) | st.binary(max_size=60))
    fields = draw(st.lists(st.sampled_from(ODD_FIELDS), max_size=2, unique=True))
    fields += [f"Content-Type: {draw(st.sampled_from(TYPES))}"] if draw(st.booleans()) else []
    fields += [f"Content-Encoding: {draw(st.sampled_from(CODINGS))}"] if draw(st.integers(0, 2)) == 0 else []
    match draw(st.sampled_from(["length", "length", "chunked", "close", "wrong", "both"])):
        case "length":
            fields.append(f"Content-Length: {len(body)}")
        case "wrong":
            fields.append(
                f"Content-Length: {draw(st.sampled_from([len(body) + 1, max(len(body) - 1, 0), -1, 10**20]))}"
            )
        case "chunked":
            fields.append("Transfer-Encoding: chunked")
            body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
        case "both":
            fields += ["Transfer-Encoding: chunked", f"Content-Length: {len(body)}"]
            body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
    head = "\r\n".join([f"HTTP/1.1 {draw(st.sampled_from(STATUSES))}", *fields, "", ""]).encode()
    extra = draw(st.sampled_from([b"", b"", b"", b"and more", head + body]))
    return draw(mutated_bytes(head + body)) if draw(st.integers(0, 2)) == 0 else head + body + extra


pieces = (answers() | st.binary(max_size=80)).flatmap(cut)


def own_answer(sai: RawSai, number: int) -> str:
    """SAI is well again, and answers something that no other answer holds."""
    text = f"answer number {number}"
    sai.answer = [
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text.encode())
    ]
    sai.closes = False
    return text


def check(server: FuzzedServer, answer: Sequence[bytes], *, closes: bool, stream: bool) -> bool:
    """The client is told something valid, and the next one gets its own answer; whether over the same connection."""
    sai, number = server.sai, next(numbers)
    sai.answer, sai.closes = answer, closes
    body = json.dumps(chat(stream=stream)).encode()
    told = server.ask(request(body, f"x-api-key: key-{number}"))
    told.check()
    used = sai.connections[-1]
    text = own_answer(sai, number)
    after = server.ask(request(body, f"x-api-key: other-key-{number}"))
    assert after.status == 200, after.body
    said = (
        content_of(read_events(after.body.decode()))
        if stream
        else json.loads(after.body)["choices"][0]["message"]["content"]
    )
    assert said == text
    return sai.connections[-1] == used


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces, st.sampled_from([True, True, True, False]), st.booleans())
@example(
    [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"], False, False
)
@example([b"HTTP/1.1 204 None\r\nContent-Length: 6\r\n\r\npoison"], False, True)
@example([b"HTTP/1.1 304 No\r\n\r\npoison"], False, False)
def test_the_client_is_told_something_valid(
    server: FuzzedServer, pieces: Sequence[bytes], closes: bool, stream: bool
) -> None:
    check(server, pieces, closes=closes, stream=stream)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name)
def test_what_was_found_once(server: FuzzedServer, path: Path, stream: bool) -> None:
    stays_open = path.name.startswith("open-")
    reused = check(server, [path.read_bytes()], closes=not stays_open, stream=stream)
    assert not reused, "it has shown that it is not to be trusted"


@pytest.mark.parametrize("charset", [b"utf-16", b"\x80utf-16-le"])
@pytest.mark.parametrize("stream", [False, True])
def test_an_odd_charset_costs_no_answer(shared_server: FuzzedServer, charset: bytes, stream: bool) -> None:
    """UTF-16 without a byte order mark; a name that is no text."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=%s\r\nContent-Length: 4\r\n\r\n" % charset
    answer = head + b"\0h\0i"
    try:
        check(shared_server, [answer], closes=False, stream=stream)
    finally:
        own_answer(shared_server.sai, 0)
        shared_server.read_log_of_errors()  # it has been told


@pytest.mark.parametrize("stream", [False, True])
def test_what_is_right_is_passed_on_over_the_same_connection(server: FuzzedServer, stream: bool) -> None:
    """Else what is nearly right would show nothing."""
    trailer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nprompttokens: 5\r\n\r\n"
    for answer in (GOOD, trailer):
        assert check(server, [answer], closes=False, stream=stream)
