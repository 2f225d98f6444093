"""HTTP itself: odd requests, limits, and aiohttp's own refusals, over raw sockets where it matters."""

import asyncio
import gzip
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from sai_proxy.app import create_app
from sai_proxy.configuration.environment import read_settings
from sai_proxy.http.admission import SMALL_BYTES
from sai_proxy.simulator import Simulator
from tests.conftest import StartProxy
from tests.support import Proxy, chat, check_schema, environment, until

BODY = json.dumps(chat()).encode()


async def raw(proxy: Proxy, data: bytes, *, last: bytes = b"") -> tuple[bytes, bytes]:
    """Send bytes, and return head and body of what comes back until the server closes, or `last`."""
    port = int(proxy.url.rsplit(":", 1)[1])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    reading = reader.readuntil(last) if last else reader.read()
    received = await asyncio.wait_for(reading, 20)
    writer.close()
    head, _, body = received.partition(b"\r\n\r\n")
    return head, body


def head(*headers: str, target: str = "POST /v1/chat/completions HTTP/1.1") -> bytes:
    return "\r\n".join((target, "Host: x", *headers, "", "")).encode()


# Every path answers in OpenAI's form


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/nothing", 404),
        ("POST", "/v1/embeddings", 404),
        ("GET", "/v1/chat/completions", 405),
        ("HEAD", "/v1/chat/completions", 405),
        ("OPTIONS", "/v1/chat/completions", 405),
        ("DELETE", "/v1/models", 405),
        ("GET", "/v1/models/unknown/model", 404),
        ("GET", "/%00%ff/..%2f..", 404),
    ],
)
async def test_a_refusal_is_an_openai_error(proxy: Proxy, method: str, path: str, status: int) -> None:
    answer = await proxy.get(path, method=method)
    assert answer.status == status
    assert answer.headers["x-request-id"]
    assert answer.headers["Content-Type"].startswith("application/json")
    if status == 405:
        assert answer.headers["Allow"]
    if method != "HEAD":
        assert answer.error["type"] == "invalid_request_error"
        check_schema("error", answer.json)


async def test_models_are_listed_and_shown(start_proxy: StartProxy) -> None:
    proxy = await start_proxy(SAI_MODELS="sai-model,team/big=t2@gpt")
    for prefix in ("", "/v1"):
        listing = (await proxy.get(f"{prefix}/models")).json
        check_schema("models_list", listing)
        assert [model["id"] for model in listing["data"]] == ["sai-model", "team/big"]
        one = (await proxy.get(f"{prefix}/models/team/big")).json
        assert one == listing["data"][1]
        check_schema("model", one)
    assert (await proxy.get("/v1/models/nope")).error["code"] == "model_not_found"


@pytest.mark.parametrize("path", ["/health", "/health/liveness", "/health/liveliness", "/health/readiness"])
async def test_health_answers_without_sai_or_credentials(start_proxy: StartProxy, path: str) -> None:
    proxy = await start_proxy(SAI_URL="http://127.0.0.1:1", ACCESS_TOKENS="secret")
    answer = await proxy.get(path)
    assert answer.status == 200
    assert answer.json["status"]


async def test_readiness_ends_when_the_server_is_about_to_stop(proxy: Proxy) -> None:
    proxy.lifecycle.draining = True
    assert (await proxy.get("/health/readiness")).status == 503
    assert (await proxy.get("/health/liveness")).status == 200


async def test_the_clients_request_id_is_on_answers_errors_and_streams(proxy: Proxy) -> None:
    headers = {"X-Request-ID": "my.request-1"}
    for body in (chat(), chat(stream=True), b"{", chat("[[status=500]]")):
        assert (await proxy.post(body, headers=headers)).headers["x-request-id"] == "my.request-1"


# Bodies


async def test_a_body_that_declares_too_much_is_refused_at_once(sai: Simulator, start_proxy: StartProxy) -> None:
    proxy = await start_proxy(MAX_BODY_BYTES="1000")
    answer_head, body = await raw(proxy, head("Content-Length: 100000000", "Connection: close"), last=b"}}")
    assert answer_head.startswith(b"HTTP/1.1 413 ")
    assert json.loads(body)["error"]["code"] == "request_too_large"
    assert sai.calls == []


async def test_a_chunked_body_is_refused_at_the_limit(start_proxy: StartProxy) -> None:
    proxy = await start_proxy(MAX_BODY_BYTES="1000")
    chunk = b"3e8\r\n" + b"x" * 1000 + b"\r\n"
    answer_head, body = await raw(
        proxy, head("Transfer-Encoding: chunked", "Connection: close") + chunk * 3 + b"0\r\n\r\n"
    )
    assert answer_head.startswith(b"HTTP/1.1 413 ")
    assert "1000 bytes" in json.loads(body)["error"]["message"]


async def test_a_body_up_to_the_limit_is_good(start_proxy: StartProxy) -> None:
    body = json.dumps(chat("x" * 2_000_000)).encode()
    proxy = await start_proxy(MAX_BODY_BYTES=str(len(body)), CONTEXT_LIMIT_TOKENS="1000000")
    assert (await proxy.post(body)).status == 200
    assert (await proxy.post(body + b" ")).status == 413


async def in_pieces(body: bytes, count: int) -> AsyncIterator[bytes]:
    """So slowly that each piece is read by itself."""
    size = -(-len(body) // count)
    for at in range(0, len(body), size):
        yield body[at : at + size]
        await asyncio.sleep(0.05)


async def post_in_pieces(proxy: Proxy, text: str) -> tuple[int, Any]:
    """Status and body of the answer to a body that has no declared length."""
    body = in_pieces(json.dumps(chat(text)).encode(), 4)
    async with proxy.session.post(f"{proxy.url}/v1/chat/completions", data=body) as response:
        return response.status, await response.json()


async def test_a_body_that_comes_in_pieces_is_refused_at_the_limit(start_proxy: StartProxy) -> None:
    proxy = await start_proxy(MAX_BODY_BYTES="1000")
    assert (await post_in_pieces(proxy, "x" * 500))[0] == 200
    status, body = await post_in_pieces(proxy, "x" * 2_000)
    assert (status, body["error"]["code"]) == (413, "request_too_large")


async def test_large_bodies_are_turned_away_while_others_are_in_memory(sai: Simulator, start_proxy: StartProxy) -> None:
    proxy = await start_proxy(MAX_BUFFERED_BYTES=str(5 * SMALL_BYTES))
    large = "x" * (3 * SMALL_BYTES // 2)
    first = asyncio.ensure_future(proxy.ask("[[silence=forever]]" + large, stream=True))
    await until(lambda: sai.calls)
    refused = await proxy.ask(large)
    assert (refused.status, refused.error["code"]) == (503, "server_busy")
    assert refused.headers["Retry-After"] == "2"
    status, body = await post_in_pieces(proxy, large)
    assert (status, body["error"]["code"]) == (503, "server_busy")
    assert (await proxy.ask("x" * 60_000)).status == 200, "ordinary requests are let in"
    assert (await post_in_pieces(proxy, "x" * 60_000))[0] == 200
    first.cancel()
    await asyncio.wait_for(sai.calls[0].ended.wait(), 5)
    assert (await proxy.ask(large)).status == 200


async def test_one_large_body_alone_is_let_in(start_proxy: StartProxy) -> None:
    proxy = await start_proxy(MAX_BUFFERED_BYTES="1")
    larger = "x" * (3 * SMALL_BYTES)
    assert (await proxy.ask(larger)).status == 200
    assert (await post_in_pieces(proxy, larger))[0] == 200


@pytest.mark.parametrize(
    "fields",
    [{"messages": [{"role": "user", "content": ""}] * 5_000}],
    ids=["many"],
)
async def test_what_is_held_beside_the_text_counts(
    fields: dict[str, Any], sai: Simulator, start_proxy: StartProxy
) -> None:
    proxy = await start_proxy(MAX_BUFFERED_BYTES=str(5 * SMALL_BYTES))
    last = {"role": "user", "content": "[[silence=forever]]"}
    body = {**chat(stream=True), **fields}
    first = asyncio.ensure_future(proxy.post({**body, "messages": [*body["messages"], last]}))
    await until(lambda: sai.calls)
    assert (await proxy.ask("x" * (3 * SMALL_BYTES))).status == 503
    first.cancel()


async def test_what_is_no_text_is_not_held(sai: Simulator, start_proxy: StartProxy) -> None:
    proxy = await start_proxy(MAX_BUFFERED_BYTES=str(5 * SMALL_BYTES))
    padded = json.dumps(chat("[[silence=forever]]", stream=True)).encode() + b" " * (2 * SMALL_BYTES)
    first = asyncio.ensure_future(proxy.post(padded))
    await until(lambda: sai.calls)
    assert (await proxy.ask("x" * (SMALL_BYTES * 3 // 2))).status == 200
    first.cancel()


async def test_a_body_that_does_not_arrive_is_408(start_proxy: StartProxy) -> None:
    proxy = await start_proxy(BODY_TIMEOUT="0.2")
    answer_head, body = await raw(proxy, head("Content-Length: 100") + b"{", last=b"}}")
    assert answer_head.startswith(b"HTTP/1.1 408 ")
    assert json.loads(body)["error"]["code"] == "request_timeout"


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br"])
async def test_compressed_bodies_are_refused_and_not_inflated(proxy: Proxy, encoding: str) -> None:
    answer = await proxy.post(gzip.compress(BODY), headers={"Content-Encoding": encoding})
    assert (answer.status, answer.error["code"]) == (415, "unsupported_media_type")
    assert encoding in answer.error["message"]


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-8"]
)
async def test_a_body_is_decoded_whatever_its_type(proxy: Proxy, content_type: str) -> None:
    assert (await proxy.post(BODY, headers={"Content-Type": content_type})).status == 200


async def test_a_body_without_a_type_is_decoded(proxy: Proxy) -> None:
    answer_head, _ = await raw(proxy, head(f"Content-Length: {len(BODY)}", "Connection: close") + BODY)
    assert answer_head.startswith(b"HTTP/1.1 200 ")


async def test_a_chunked_body_is_read(proxy: Proxy) -> None:
    chunks = b"".join(b"5\r\n" + BODY[at : at + 5] + b"\r\n" for at in range(0, len(BODY) - 5, 5))
    rest = BODY[len(BODY) - len(BODY) % 5 if len(BODY) % 5 else len(BODY) - 5 :]
    data = chunks + f"{len(rest):x}\r\n".encode() + rest + b"\r\n0\r\n\r\n"
    answer_head, _ = await raw(proxy, head("Transfer-Encoding: chunked", "Connection: close") + data)
    assert answer_head.startswith(b"HTTP/1.1 200 ")


async def test_expect_100_continue_is_met(proxy: Proxy) -> None:
    request = head("Expect: 100-continue", f"Content-Length: {len(BODY)}", "Connection: close")
    answer_head, body = await raw(proxy, request + BODY)
    assert answer_head == b"HTTP/1.1 100 Continue"
    assert body.startswith(b"HTTP/1.1 200 ")


async def test_an_http_1_0_client_gets_its_answer_and_the_end(proxy: Proxy) -> None:
    stream = json.dumps(chat(stream=True)).encode()
    for body in (BODY, stream):
        request = head(f"Content-Length: {len(body)}", target="POST /v1/chat/completions HTTP/1.0")
        answer_head, answer = await raw(proxy, request + body)
        assert answer_head.startswith(b"HTTP/1.0 200 ")
        assert b"chunked" not in answer_head.lower()
        assert answer.startswith((b"{", b"data: "))
        assert answer.endswith((b"}", b"[DONE]\n\n"))


# Headers and the wire


async def test_a_session_cookie_of_32_kib_is_accepted(sai: Simulator, proxy: Proxy) -> None:
    cookie = ".AspNetCore.Cookies=" + "c" * 32_000
    assert (await proxy.ask(headers={"user_api_key": cookie})).status == 200
    assert sai.calls[0].cookie == cookie


@pytest.mark.parametrize(
    "data",
    [
        head("x-api-key: secret-" + "k" * 100_000),
        head("x-api-key: secret\x00value"),
        head("Content-Length: 5", "Content-Length: 6"),
        head("Content-Length: 5", "Transfer-Encoding: chunked") + b"0\r\n\r\n",
        head("Transfer-Encoding: xchunked"),
        head("x-api-key : secret"),
        b"nonsense secret\r\n\r\n",
        b"\x16\x03\x01\x02\x00secret\r\n\r\n",
        head("Transfer-Encoding: chunked") + b"zz\r\nsecret",
    ],
)
async def test_malformed_http_is_400_and_echoes_nothing(
    sai: Simulator, proxy: Proxy, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    answer_head, body = await raw(proxy, data)
    assert answer_head.split()[1] == b"400"
    assert b"x-request-id: " in answer_head
    assert json.loads(body)["error"]["type"] == "invalid_request_error"
    assert b"secret" not in answer_head + body
    assert "secret" not in caplog.text
    (line,) = [vars(record) for record in caplog.records if record.message == "refused before any layer"]
    assert line["request_id"].encode() in answer_head
    assert line["client"] == "127.0.0.1"
    assert sai.calls == []


async def test_an_unknown_expectation_is_an_openai_error(proxy: Proxy) -> None:
    answer_head, body = await raw(proxy, head("Expect: miracles", "Content-Length: 0"))
    assert answer_head.startswith(b"HTTP/1.1 400 ")
    assert re.search(rb"x-request-id: [0-9a-f]{8}", answer_head)
    assert json.loads(body)["error"]["type"] == "invalid_request_error"


async def test_a_stream_for_an_old_client_that_keeps_alive_has_an_end(proxy: Proxy) -> None:
    body = json.dumps(chat(stream=True)).encode()
    request = head(
        f"Content-Length: {len(body)}", "Connection: keep-alive", target="POST /v1/chat/completions HTTP/1.0"
    )
    _, answer = await raw(proxy, request + body)
    assert answer.endswith(b"[DONE]\n\n")


async def test_odd_bytes_in_headers_are_no_failure_of_ours(proxy: Proxy, caplog: pytest.LogCaptureFixture) -> None:
    request = head(f"Content-Length: {len(BODY)}", "Content-Encoding: x").replace(b": x\r\n\r\n", b": \xff\r\n\r\n")
    answer_head, body = await raw(proxy, request + BODY, last=b"}}")
    assert answer_head.startswith(b"HTTP/1.1 415 ")
    assert json.loads(body)["error"]["code"] == "unsupported_media_type"
    assert "unexpected error" not in caplog.messages


async def test_the_chain_is_in_order(sai: Simulator) -> None:
    app = create_app(read_settings(environment(sai.url, CORS_ORIGINS="*")))
    names = [getattr(layer, "__name__", "") for layer in app.middlewares]
    assert names == ["request_record", "request_id", "error_mapping", "cors"]


async def test_the_server_does_not_name_its_parts(proxy: Proxy) -> None:
    assert (await proxy.get("/health")).headers["Server"] == "sai-proxy"


@pytest.mark.parametrize("chunks", [4096, 4097, 4098])
async def test_a_body_in_tiny_chunks_is_read_to_its_end_and_so_is_the_next_request(proxy: Proxy, chunks: int) -> None:
    """After so many aiohttp's parser is told to pause, and does so in the body that comes next."""
    chunked = head("Content-Type: application/json", "Transfer-Encoding: chunked")
    sized = head("Content-Type: application/json", f"Content-Length: {len(BODY)}") + BODY
    rest = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
    reader, writer = await asyncio.open_connection("127.0.0.1", int(proxy.url.rsplit(":", 1)[1]))
    async with asyncio.timeout(10):
        for first, later in ((chunked + b"1\r\n \r\n" * chunks, rest), (sized, b"")):
            writer.write(first)
            await writer.drain()
            if later:
                await asyncio.sleep(0.05)
                writer.write(later)
            assert b" 200 " in await reader.readuntil(b"\r\n")
            await reader.readuntil(b'"reasoning_tokens":0')
    writer.close()


async def test_a_request_behind_one_whose_body_ended_at_the_parsers_pause_is_answered(proxy: Proxy) -> None:
    body = BODY[:1] + b" " * (4097 - len(BODY)) + BODY[1:]
    chunked = head("Content-Type: application/json", "Transfer-Encoding: chunked")
    chunked += b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    sized = head("Content-Type: application/json", f"Content-Length: {len(BODY)}") + BODY
    reader, writer = await asyncio.open_connection("127.0.0.1", int(proxy.url.rsplit(":", 1)[1]))
    async with asyncio.timeout(10):
        for request in (chunked, sized):
            writer.write(request)
            assert b" 200 " in await reader.readuntil(b"\r\n")
            await reader.readuntil(b'"reasoning_tokens":0')
    writer.close()
