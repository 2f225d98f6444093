"""Bytes that are nearly an HTTP request."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.mutations import mutated_bytes
from tests.fuzz.server import FuzzedServer, check_error, read_answers, request
from tests.support import ROOT, chat

CORPUS = sorted((ROOT / "tests/fuzz/corpus/heads").iterdir())
BODY = json.dumps(chat()).encode()
CHUNKED = request(b"").replace(
    b"Content-Length: 0", b"Transfer-Encoding: chunked"
) + b"%x;x=y\r\n%s\r\n0\r\nT: t\r\n\r\n" % (
    len(BODY),
    BODY,
)
VALID = [
    request(BODY, "Content-Type: application/json", "Authorization: Bearer key", "Accept: */*"),
    request(BODY, close=False) + request(BODY),
    request(BODY, target="POST /chat/completions?a=%20b#c HTTP/1.0"),
    CHUNKED,
    request(BODY, "Expect: 100-continue", "X-Request-ID: a", "Cookie: a=b"),
    request(b"", "Origin: http://x", "Access-Control-Request-Method: POST", target="OPTIONS /v1/models HTTP/1.1"),
    request(b"", target="GET /v1/models/sai-model HTTP/1.1"),
]
PARTS = (
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b":",
    b" ",
    b"\t",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Upgrade: websocket\r\nConnection: Upgrade\r\n",
    b"Content-Encoding: gzip\r\n",
    b"\xff\xfe",
    b"%00",
    b"../",
    b"//",
    b"HTTP/2.0",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"-1",
    b"99999999999999999999",
    b"X-Request-ID: \x80\r\n",
    b"x" * 9_000,
)
heads = st.sampled_from(VALID).flatmap(lambda data: mutated_bytes(data, PARTS))


def check(server: FuzzedServer, data: bytes) -> None:
    """It is answered in well-formed HTTP, or the connection is closed; and others are served on."""
    for answer in read_answers(server.exchange(data), to_head=data.startswith(b"HEAD")):
        assert answer.status != 500
        if answer.status >= 400 and not data.startswith(b"HEAD"):
            check_error(json.loads(answer.body))
    server.check_alive()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(heads)
def test_whatever_comes_the_server_lives_on(server: FuzzedServer, data: bytes) -> None:
    check(server, data)


@pytest.mark.parametrize("data", VALID)
def test_what_is_right_is_answered(server: FuzzedServer, data: bytes) -> None:
    """Else what is nearly right would show nothing."""
    assert read_answers(server.exchange(data, stays=True))
    check(server, data)


@pytest.mark.parametrize(
    "field",
    [
        "If-Modified-Since: Fri, 99 Foo 9999 99:99:99 GMT",
        "If-None-Match: W/,,",
        "If-Range: x",
        "Range: bytes=5-1,-0",
    ],
)
def test_odd_conditions_for_a_file_are_answered_too(server: FuzzedServer, field: str) -> None:
    answer = server.ask(request(b"", field, target="GET /docs/swagger-ui.css HTTP/1.1"))
    if answer.status not in (200, 206, 304):
        check_error(json.loads(answer.body))


def test_a_request_without_a_version_is_malformed(server: FuzzedServer) -> None:
    answer = server.exchange(request(b"", target="GET /v1/models"), stays=True)
    assert answer.split(b" ")[1] == b"400"


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name)
def test_what_was_found_once(server: FuzzedServer, path: Path) -> None:
    check(server, path.read_bytes())
