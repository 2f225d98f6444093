"""Web pages of other sites, which browsers let send some requests without asking anybody."""

import json

import pytest

from sai_proxy.simulator import Simulator
from tests.conftest import StartProxy
from tests.faults.raw_client import all_given_back, check_refusal, exchange, head
from tests.support import Proxy, chat

EVIL = "https://evil.example.com"
BODY = json.dumps(chat()).encode()
FORM = "application/x-www-form-urlencoded"
SIMPLE = [
    "text/plain",
    "text/plain;charset=UTF-8",
    "Text/Plain",
    FORM,
    "multipart/form-data; boundary=x",
    None,
]


def post(origin: str | None, content_type: str | None, body: bytes = BODY, path: str = "/v1/chat/completions") -> bytes:
    headers = [f"Content-Length: {len(body)}", "Connection: close"]
    headers += [f"Origin: {origin}"] if origin is not None else []
    headers += [f"Content-Type: {content_type}"] if content_type is not None else []
    return head(*headers, target=f"POST {path} HTTP/1.1") + body


@pytest.mark.parametrize("content_type", SIMPLE)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/chat/completions", "/v1/completions", "/completions"])
async def test_what_a_browser_sends_without_asking_is_refused_before_sai_is(
    sai: Simulator, proxy: Proxy, content_type: str | None, path: str
) -> None:
    reply = await exchange(proxy, post(EVIL, content_type, path=path))
    check_refusal(reply, 403, "cross_site_request")
    assert "access-control-allow-origin" not in reply.headers
    assert sai.calls == []
    await all_given_back(proxy)


@pytest.mark.parametrize("origin", ["null", "", "http://localhost:4000", "https://evil.example.com, https://a.example"])
async def test_any_origin_that_was_not_named_is_foreign(sai: Simulator, proxy: Proxy, origin: str) -> None:
    check_refusal(await exchange(proxy, post(origin, "text/plain")), 403, "cross_site_request")
    assert sai.calls == []


async def test_a_page_is_refused_whatever_its_request_holds(sai: Simulator, proxy: Proxy) -> None:
    """Before its body is read, so that a long or malformed one tells it nothing."""
    for body in (b"", b"{", b"x" * 300_000, b"messages=hi&model=sai-model"):
        check_refusal(await exchange(proxy, post(EVIL, FORM, body)), 403, "cross_site_request")
    assert sai.calls == []


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8", "application/x-json"])
async def test_what_a_browser_asks_about_first_passes_and_is_not_shown_to_the_page(
    sai: Simulator, proxy: Proxy, content_type: str
) -> None:
    reply = await exchange(proxy, post(EVIL, content_type))
    assert reply.status == 200
    assert "access-control-allow-origin" not in reply.headers
    preflight = head(
        f"Origin: {EVIL}",
        "Access-Control-Request-Method: POST",
        "Access-Control-Request-Headers: content-type",
        "Connection: close",
        target="OPTIONS /v1/chat/completions HTTP/1.1",
    )
    check_refusal(await exchange(proxy, preflight), 405)
    assert len(sai.calls) == 1


@pytest.mark.parametrize("content_type", SIMPLE)
async def test_programs_which_have_no_origin_may_send_any_type(
    sai: Simulator, proxy: Proxy, content_type: str | None
) -> None:
    assert (await exchange(proxy, post(None, content_type))).status == 200
    assert len(sai.calls) == 1


@pytest.mark.parametrize("content_type", SIMPLE)
async def test_an_origin_that_was_named_may_send_any_type(start_proxy: StartProxy, content_type: str | None) -> None:
    good = "https://good.example.com"
    proxy = await start_proxy(CORS_ORIGINS=good)
    reply = await exchange(proxy, post(good, content_type))
    assert reply.status == 200
    assert reply.headers["access-control-allow-origin"] == good
    check_refusal(await exchange(proxy, post(EVIL, content_type)), 403, "cross_site_request")


async def test_where_every_origin_is_named_every_page_may(start_proxy: StartProxy) -> None:
    proxy = await start_proxy(CORS_ORIGINS="*")
    for content_type in SIMPLE:
        assert (await exchange(proxy, post(EVIL, content_type))).status == 200
