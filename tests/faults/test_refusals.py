"""SAI answers, but not with an answer: U15, U16, U18 to U23."""

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from sai_proxy.keys import METRICS
from tests.faults.played_sai import Call, PlayedSai, chunked, one_after_another, played_sai, whole
from tests.faults.watched import Watched, watched_proxy
from tests.integration.raw_upstream import head
from tests.support import SYSTEM_COOKIE, SYSTEM_KEY, USER_KEY, fields_of

PLAIN = "Content-Type: text/plain"
HTML = "Content-Type: text/html; charset=utf-8"
USER_COOKIE = ".AspNetCore.Cookies=cookie-of-the-user"
LOGIN = "<!DOCTYPE html>\n<html><head><title>Sign in to your account</title></head><body>...</body></html>"
TOO_MANY = "429 Too Many Requests"
WORDS = "SAI-s-own-words <script>alert(1)</script> C:\\inetpub\\sai\\Secret.cs:17"


def chain(proxy: Watched) -> tuple[str | None, bool | None]:
    """The last credential tried, and whether another one had been tried before."""
    (line,) = proxy.requests
    return line.get("credential"), line.get("fallback")


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
@pytest.mark.parametrize("key", [None, USER_KEY, USER_COOKIE], ids=["system", "key", "cookie"])
async def test_u15_a_redirect_to_a_login_page_is_401_and_nobody_else_sees_the_credential(
    stream: bool, status: str, key: str | None
) -> None:
    async with played_sai(whole(LOGIN, HTML)) as login:
        elsewhere = login.url.replace("127.0.0.1", "localhost")
        response = whole("", f"Location: {elsewhere}/common/oauth2/authorize", status=status)
        async with played_sai(response) as sai, watched_proxy(sai, MAX_RETRIES="3") as proxy:
            outcome = await proxy.ask(stream=stream, key=key)
            assert (outcome.status, outcome.code) == (401, "invalid_api_key" if key else "upstream_auth")
            assert "Location" not in outcome.headers
            assert len(sai.calls) == 1
        assert login.connections == 0


async def test_u15_a_redirect_to_anywhere_else_is_502_and_not_followed(stream: bool) -> None:
    async with played_sai(whole("hello")) as other:
        response = whole("", f"Location: {other.url}/v2/execute", status="307 Temporary Redirect")
        async with played_sai(response) as sai, watched_proxy(sai, MAX_RETRIES="3") as proxy:
            outcome = await proxy.ask(stream=stream)
            assert (outcome.status, outcome.code) == (502, "upstream_error")
            assert len(sai.calls) == 1
        assert other.connections == 0


@pytest.mark.parametrize(
    "response",
    [whole(LOGIN, HTML), chunked(*(bytes([b]) for b in LOGIN.encode()), headers=(HTML,))],
    ids=["at once", "byte by byte"],
)
async def test_u16_a_login_page_is_401_before_a_byte_of_it_is_relayed(stream: bool, response: bytes) -> None:
    async with played_sai(response) as sai, watched_proxy(sai, MAX_RETRIES="3") as proxy:
        outcome = await proxy.ask(stream=stream)
        assert (outcome.status, outcome.code) == (401, "upstream_auth")
        assert "account" not in outcome.answer.text
        assert len(sai.calls) == 1


async def test_u16_a_page_that_says_nothing_of_signing_in_is_502(stream: bool) -> None:
    page = f"<html><body>Down for maintenance. {WORDS}</body></html>"
    async with played_sai(whole(page, HTML)) as sai, watched_proxy(sai, MAX_RETRIES="3") as proxy:
        outcome = await proxy.ask(stream=stream)
        assert (outcome.status, outcome.code) == (502, "upstream_error")
        assert "maintenance" not in outcome.answer.text
        assert len(sai.calls) == 1


async def test_u16_a_models_text_about_html_is_an_answer(stream: bool) -> None:
    text = "Use <html> as the root; the title may be 'Sign in to your account'."
    async with played_sai(whole(text, HTML)) as sai, watched_proxy(sai) as proxy:
        assert (await proxy.ask(stream=stream)).text == text
        assert len(sai.calls) == 1


@pytest.mark.parametrize(
    ("status", "key", "expected", "label"),
    [
        ("401 Unauthorized", USER_KEY, (401, "invalid_api_key"), "user_key"),
        ("401 Unauthorized", USER_COOKIE, (401, "invalid_api_key"), "user_cookie"),
        ("401 Unauthorized", None, (401, "upstream_auth"), "system_key"),
        ("403 Forbidden", USER_KEY, (403, "template_access_denied"), "user_key"),
        ("403 Forbidden", None, (403, "template_access_denied"), "system_key"),
    ],
)
async def test_u18_a_refused_credential_is_final_and_counted(
    stream: bool, status: str, key: str | None, expected: tuple[int, str], label: str
) -> None:
    """No other identity takes its place."""
    async with played_sai(whole(WORDS, status=status)) as sai, watched_proxy(sai, MAX_RETRIES="3") as proxy:
        outcome = await proxy.ask(stream=stream, key=key)
        assert (outcome.status, outcome.code) == expected
        assert "SAI-s-own-words" not in outcome.answer.text
        assert chain(proxy) == (label, False)
        assert sai.keys == [key or SYSTEM_KEY]
        fault = {"upstream_auth": "sai", "invalid_api_key": "caller"}.get(expected[1], "policy")
        registry = proxy.proxy.app[METRICS].registry
        assert registry.get_sample_value("sai_proxy_failures_total", {"code": expected[1], "fault": fault}) == 1


@pytest.mark.parametrize(
    ("status", "expected", "repeatable"),
    [
        ("400 Bad Request", (400, "upstream_rejected"), True),
        ("404 Not Found", (404, "model_not_found"), True),
        ("409 Conflict", (409, "conflict"), False),
        ("413 Payload Too Large", (413, "request_too_large"), True),
        ("422 Unprocessable Entity", (400, "upstream_rejected"), True),
    ],
)
async def test_u19_a_refusal_keeps_its_class_without_sais_words(
    stream: bool, status: str, expected: tuple[int, str], repeatable: bool
) -> None:
    body = json.dumps({"error": WORDS, "key": SYSTEM_KEY})
    response = whole(body, "Content-Type: application/json", status=status)
    async with played_sai(response) as sai, watched_proxy(sai, MAX_RETRIES="3") as proxy:
        outcome = await proxy.ask(stream=stream)
        assert (outcome.status, outcome.code) == expected
        assert "SAI-s-own-words" not in outcome.answer.text
        assert outcome.headers.get("x-should-retry") == (None if repeatable else "false")
        assert len(sai.calls) == 1
        assert SYSTEM_KEY not in str([fields_of(record) for record in proxy.log.records])


@pytest.mark.parametrize("status", ["408 Request Timeout", "504 Gateway Timeout"])
async def test_u20_a_timeout_of_sais_is_504_and_asked_once(stream: bool, status: str) -> None:
    async with (
        played_sai(whole("", status=status)) as sai,
        watched_proxy(sai, MAX_RETRIES="3", RETRY_STATUSES="500,502,503") as proxy,
    ):
        outcome = await proxy.ask(stream=stream)
        assert (outcome.status, outcome.code) == (504, "upstream_timeout")
        assert len(sai.calls) == 1


def http_date(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("7", range(7, 8)),
        ("in 30 s", range(27, 32)),
        ("an hour ago", range(1, 2)),
        ("0", range(1, 2)),
        ("99999", range(120, 121)),
        ("9" * 5000, range(120, 121)),
        ("", range(5, 6)),
        ("soon", range(5, 6)),
        ("-3", range(5, 6)),
        ("Fri, 31 Dec 99999999999999 00:00:00 GMT", range(5, 6)),
    ],
)
async def test_u21_a_limit_is_429_with_a_wait_after_the_chain_is_through(stream: bool, asked: str, told: range) -> None:
    wait = {"in 30 s": http_date(30), "an hour ago": http_date(-3600)}.get(asked, asked)
    headers = [f"Retry-After: {wait}"] if wait else []
    async with (
        played_sai(whole("Template usage limit exceeded.", *headers, status=TOO_MANY)) as sai,
        watched_proxy(sai, MAX_RETRIES="3") as proxy,
    ):
        outcome = await proxy.ask(stream=stream, key=USER_KEY)
        assert (outcome.status, outcome.code) == (429, "rate_limit_exceeded")
        assert int(outcome.headers["Retry-After"]) in told
        assert int(outcome.headers["retry-after-ms"]) == 1000 * int(outcome.headers["Retry-After"])
        assert sai.keys == [USER_KEY, SYSTEM_COOKIE]
        assert chain(proxy) == ("system_cookie", True)


async def test_u21_the_cookie_answers_where_the_key_is_limited(stream: bool) -> None:
    async with (
        played_sai(one_after_another(whole("limit", status=TOO_MANY), whole("hello", PLAIN))) as sai,
        watched_proxy(sai) as proxy,
    ):
        assert (await proxy.ask(stream=stream)).text == "hello"
        assert sai.keys == [SYSTEM_KEY, SYSTEM_COOKIE]
        assert chain(proxy) == ("system_cookie", True)


@pytest.mark.parametrize(
    "limit",
    [
        whole("limit", "Content-Encoding: br", status=TOO_MANY),
        whole(b"\x1f\x8bnone", "Content-Encoding: gzip", status=TOO_MANY),
        whole("limit", "Content-Type: application/json; charset=nonsense", status=TOO_MANY),
        head("Content-Length: 100", status=TOO_MANY) + b"half",
        head("Transfer-Encoding: chunked", status=TOO_MANY) + b"ZZ\r\n",
    ],
    ids=["unknown coding", "malformed gzip", "unknown charset", "body that breaks off", "malformed chunk"],
)
async def test_u21_a_limit_is_one_whatever_its_body_is(stream: bool, limit: bytes) -> None:
    async def refuse(call: Call) -> None:
        await call.send(limit)
        call.end()

    async with (
        played_sai(one_after_another(refuse, whole("hello", PLAIN))) as sai,
        watched_proxy(sai) as proxy,
    ):
        assert (await proxy.ask(stream=stream)).text == "hello"
        assert sai.keys == [SYSTEM_KEY, SYSTEM_COOKIE]


OVERFLOW = whole("Error executing tool: prompt is too long: 210000 tokens > 200000", status="500 Oops")


async def test_u22_a_conversation_too_long_for_sai_is_told_as_an_answer(stream: bool) -> None:
    async with played_sai(OVERFLOW) as sai, watched_proxy(sai, MAX_RETRIES="3") as proxy:
        outcome = await proxy.ask(stream=stream, failure="context_length_exceeded")
        assert (outcome.status, outcome.finish_reason) == (200, "length")
        assert "context is too long" in outcome.text
        assert len(sai.calls) == 1


async def test_u22_or_as_an_error_that_is_not_to_be_repeated(stream: bool) -> None:
    async with (
        played_sai(OVERFLOW) as sai,
        watched_proxy(sai, CONTEXT_OVERFLOW="error", MAX_RETRIES="3", RETRY_STATUSES="502,503") as proxy,
    ):
        outcome = await proxy.ask(stream=stream)
        assert (outcome.status, outcome.code) == (400, "context_length_exceeded")
        assert outcome.headers["x-should-retry"] == "false"
        assert len(sai.calls) == 1


async def expect_failure(
    proxy: Watched, sai: PlayedSai, *, stream: bool, expected: tuple[int, str], calls: int
) -> None:
    outcome = await proxy.ask(stream=stream)
    assert (outcome.status, outcome.code) == expected
    assert "SAI-s-own-words" not in outcome.answer.text
    assert len(sai.calls) == calls
    assert outcome.headers.get("x-should-retry") == ("false" if calls > 1 else None)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (500, (502, "upstream_error")),
        (502, (502, "upstream_error")),
        (504, (504, "upstream_timeout")),
        (507, (502, "upstream_error")),
        (418, (502, "upstream_error")),
    ],
)
async def test_u23_a_failure_that_sai_may_have_billed_is_asked_once(
    stream: bool, status: int, expected: tuple[int, str]
) -> None:
    async with (
        played_sai(whole(WORDS, status=f"{status} No")) as sai,
        watched_proxy(sai, MAX_RETRIES="3") as proxy,
    ):
        await expect_failure(proxy, sai, stream=stream, expected=expected, calls=1)


async def test_u23_a_503_is_tried_again_and_passed_on_with_its_wait(stream: bool) -> None:
    async with (
        played_sai(whole(WORDS, "Retry-After: 0", status="503 No")) as sai,
        watched_proxy(sai, MAX_RETRIES="2") as proxy,
    ):
        await expect_failure(proxy, sai, stream=stream, expected=(503, "upstream_unavailable"), calls=3)
        assert proxy.outcomes[0].headers["Retry-After"] == "1"


async def test_u23_a_503_that_passes_is_not_seen_by_the_client(stream: bool) -> None:
    async with (
        played_sai(one_after_another(whole("no", "Retry-After: 0", status="503 No"), whole("hello", PLAIN))) as sai,
        watched_proxy(sai, MAX_RETRIES="3") as proxy,
    ):
        assert (await proxy.ask(stream=stream)).text == "hello"
        assert len(sai.calls) == 2


async def test_u23_other_statuses_are_tried_again_if_they_are_named(stream: bool) -> None:
    async with (
        played_sai(one_after_another(whole("no", "Retry-After: 0", status="500 No"), whole("hello", PLAIN))) as sai,
        watched_proxy(sai, MAX_RETRIES="3", RETRY_STATUSES="500") as proxy,
    ):
        assert (await proxy.ask(stream=stream)).text == "hello"
        assert len(sai.calls) == 2


async def test_u23_a_long_wait_is_passed_on_instead_of_slept(stream: bool) -> None:
    async with (
        played_sai(whole(WORDS, "Retry-After: 120", status="503 No")) as sai,
        watched_proxy(sai, MAX_RETRIES="3") as proxy,
    ):
        await expect_failure(proxy, sai, stream=stream, expected=(503, "upstream_unavailable"), calls=1)
        assert proxy.outcomes[0].headers["Retry-After"] == "120"
        assert proxy.requests[0]["duration_s"] < 5
