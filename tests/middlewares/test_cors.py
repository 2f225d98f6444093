import pytest

from tests.conftest import StartProxy
from tests.support import Answer, Proxy, chat

A, B = "https://a.example.com", "http://localhost:3000"


async def ask(proxy: Proxy, method: str, path: str, **headers: str) -> Answer:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    async with proxy.session.request(method, proxy.url + path, headers=sent) as response:
        return Answer(response.status, response.headers.copy(), await response.text())


def cors_headers(answer: Answer) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name.startswith("Access-Control-")}


async def test_it_is_off_by_default(proxy: Proxy) -> None:
    answer = await ask(proxy, "GET", "/v1/models", Origin=A)
    assert cors_headers(answer) == {}
    preflight = await ask(proxy, "OPTIONS", "/v1/chat/completions", Origin=A, Access_Control_Request_Method="POST")
    assert preflight.status == 405


async def test_a_named_origin_is_admitted_and_no_other(start_proxy: StartProxy) -> None:
    proxy = await start_proxy(CORS_ORIGINS=f"{A}, {B}")
    for origin in (A, B):
        answer = await ask(proxy, "GET", "/v1/models", Origin=origin)
        assert answer.headers["Access-Control-Allow-Origin"] == origin
        assert answer.headers["Access-Control-Allow-Credentials"] == "true"
        assert "x-request-id" in answer.headers["Access-Control-Expose-Headers"]
        assert answer.headers["Vary"] == "Origin"
    for origin in ("https://evil.example.com", "https://a.example.com.evil.com", "null"):
        answer = await ask(proxy, "GET", "/v1/models", Origin=origin)
        assert answer.status == 200
        assert cors_headers(answer) == {}
        assert answer.headers["Vary"] == "Origin"


async def test_a_preflight_is_answered_before_auth(start_proxy: StartProxy) -> None:
    proxy = await start_proxy(CORS_ORIGINS=A, ACCESS_TOKENS="token")
    answer = await ask(
        proxy,
        "OPTIONS",
        "/v1/chat/completions",
        Origin=A,
        Access_Control_Request_Method="POST",
        Access_Control_Request_Headers="authorization, x-stainless-os",
    )
    assert answer.status == 204
    assert answer.headers["Access-Control-Allow-Origin"] == A
    assert "POST" in answer.headers["Access-Control-Allow-Methods"]
    assert answer.headers["Access-Control-Allow-Headers"] == "authorization, x-stainless-os"
    assert int(answer.headers["Access-Control-Max-Age"]) > 0


async def test_everyone_is_admitted_without_credentials(start_proxy: StartProxy) -> None:
    proxy = await start_proxy(CORS_ORIGINS="*")
    answer = await ask(proxy, "GET", "/v1/models", Origin=A)
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Credentials" not in answer.headers


@pytest.mark.parametrize("text", ["hello", "[[status=500]]", "[[pieces=3]]"])
@pytest.mark.parametrize("stream", [False, True])
async def test_answers_errors_and_streams_can_be_read_by_a_page(
    start_proxy: StartProxy, text: str, stream: bool
) -> None:
    proxy = await start_proxy(CORS_ORIGINS=A)
    answer = await proxy.post(chat(text, stream=stream), headers={"Origin": A})
    assert answer.headers["Access-Control-Allow-Origin"] == A


async def test_an_options_request_that_is_no_preflight_is_405(start_proxy: StartProxy) -> None:
    proxy = await start_proxy(CORS_ORIGINS="*")
    answer = await ask(proxy, "OPTIONS", "/v1/chat/completions", Origin=A)
    assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (405, "*")
