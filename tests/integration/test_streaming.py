"""Event streams from the whole application over real sockets."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from sai_proxy.simulator import Simulator
from tests.conftest import StartProxy
from tests.support import Proxy, chat, check_schema, content_of, request_lines, until

TEXT = 'Hola, ¿cómo estás? "a\\b"\r\n\tñandú 漢字 😀👩‍👧 \u2028'
KEEP_ALIVE = b": keep-alive\n"


def directive(text: str) -> str:
    return f"[[answer={json.dumps(text)}]]"


@asynccontextmanager
async def opened(proxy: Proxy, text: str, **fields: Any) -> AsyncIterator[aiohttp.ClientResponse]:
    async with proxy.session.post(
        f"{proxy.url}/v1/chat/completions", json=chat(text, stream=True, **fields)
    ) as response:
        yield response


async def test_a_stream_has_openais_order_headers_and_shape(proxy: Proxy) -> None:
    answer = await proxy.ask(directive(TEXT) + "[[pieces=4]][[model=gpt-5.2]]", stream=True)
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/event-stream"
    assert answer.headers["Cache-Control"] == "no-cache"
    assert answer.headers["X-Accel-Buffering"] == "no"
    assert answer.headers["x-sai-model"] == "gpt-5.2"
    assert "Content-Length" not in answer.headers
    assert answer.headers["x-request-id"]
    *chunks, done = answer.events
    assert done == "[DONE]"
    assert content_of(chunks) == TEXT
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
    assert chunks[-1]["choices"][0] == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}
    assert all("usage" not in chunk for chunk in chunks)
    assert all(chunk["choices"][0]["delta"].get("content") for chunk in chunks[1:-1])
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks}) == 1
    for chunk in chunks:
        check_schema("chat_completion_chunk", chunk)


async def test_usage_comes_last_and_only_if_asked_for(proxy: Proxy) -> None:
    answer = await proxy.ask("[[usage=12,34]]", stream=True, stream_options={"include_usage": True})
    *chunks, usage, done = answer.events
    assert done == "[DONE]"
    assert usage["choices"] == []
    assert (usage["usage"]["prompt_tokens"], usage["usage"]["completion_tokens"]) == (12, 34)
    assert all(chunk["usage"] is None for chunk in chunks)
    check_schema("chat_completion_chunk", usage)


@pytest.mark.parametrize(
    "how", ["[[split=1]]", "[[split=2]]", "[[split=3]]", "[[json]][[split=1]]", "[[gzip]][[split=5]]"]
)
async def test_the_text_is_the_same_however_it_is_cut(proxy: Proxy, how: str) -> None:
    answer = await proxy.ask(directive(TEXT) + how, stream=True)
    assert content_of(answer.events) == TEXT


async def test_long_pieces_are_split(start_proxy: StartProxy) -> None:
    proxy = await start_proxy(STREAM_CHUNK_CHARS="10")
    events = (await proxy.ask("[[chars=95]]", stream=True)).events
    lengths = [len(event["choices"][0]["delta"]["content"]) for event in events[1:-2]]
    assert lengths == [10] * 9 + [5]


async def test_an_empty_answer_has_no_content_chunk(proxy: Proxy) -> None:
    role, finish, done = (await proxy.ask("[[empty]]", stream=True)).events
    assert role["choices"][0]["delta"]["role"] == "assistant"
    assert finish["choices"][0]["finish_reason"] == "stop"
    assert done == "[DONE]"


async def test_each_piece_is_forwarded_when_it_arrives(proxy: Proxy) -> None:
    """SAI stops for good after the third piece, and the client has it all the same."""
    async with opened(proxy, "[[answer=aabbccdd]][[split=2]][[delay=0.02]][[stall=3]]") as response:
        received = b""
        while b'"cc"' not in received:
            received += await response.content.readany()
    assert received.index(b'"aa"') < received.index(b'"bb"') < received.index(b'"cc"')


async def test_the_head_goes_out_with_sais(start_proxy: StartProxy) -> None:
    """SAI has sent its status and stops before the first byte: status and role chunk are out."""
    proxy = await start_proxy(HEARTBEAT_SECONDS="60")
    async with opened(proxy, "[[pause=forever]]") as response:
        assert response.status == 200
        assert b'"role":"assistant"' in await response.content.readany()


# Failures


@pytest.mark.parametrize(
    ("question", "status", "code"),
    [
        ("[[status=500]]", 502, "upstream_error"),
        ("[[status=401]]", 401, "upstream_auth"),
        ("[[login=page]]", 401, "upstream_auth"),
        ("[[reset=before]]", 502, "upstream_protocol"),
    ],
)
async def test_a_refusal_before_the_first_byte_is_a_real_http_error(
    proxy: Proxy, question: str, status: int, code: str
) -> None:
    answer = await proxy.ask(question, stream=True)
    assert (answer.status, answer.error["code"]) == (status, code)
    assert answer.headers["Content-Type"].startswith("application/json")


@pytest.mark.parametrize(
    "question",
    [
        "[[split=1]][[delay=0.01]][[reset=middle]]",
        "[[split=1]][[delay=0.01]][[cut=chunked]]",
        "[[split=1]][[delay=0.01]][[cut=length]]",
    ],
)
async def test_an_answer_that_breaks_off_ends_with_an_error_event(proxy: Proxy, question: str) -> None:
    *chunks, last = (await proxy.ask(f"[[answer=abcdefgh]]{question}", stream=True)).events
    assert content_of(chunks).startswith("abc")
    assert set(last) == {"error"}
    assert (last["error"]["type"], last["error"]["code"]) == ("server_error", "upstream_protocol")
    assert all(chunk["choices"][0]["finish_reason"] is None for chunk in chunks)
    check_schema("error", last)


async def test_an_answer_that_stalls_ends_with_an_error_event(start_proxy: StartProxy) -> None:
    proxy = await start_proxy(STREAM_IDLE_TIMEOUT="0.2")
    *chunks, last = (await proxy.ask("[[answer=abcd]][[split=1]][[stall=2]]", stream=True)).events
    assert content_of(chunks) == "ab"
    assert last["error"]["code"] == "upstream_timeout"


@pytest.mark.parametrize("question", ["x" * 41, "[[overflow]]"])
async def test_an_overflow_is_streamed_as_chunks(start_proxy: StartProxy, question: str) -> None:
    proxy = await start_proxy(CONTEXT_LIMIT_TOKENS="10")
    answer = await proxy.ask(question, stream=True, stream_options={"include_usage": True})
    *chunks, usage, done = answer.events
    assert (answer.status, answer.headers["Content-Type"], done) == (200, "text/event-stream", "[DONE]")
    assert content_of(chunks).startswith("The context is too long")
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"
    assert usage["usage"]["total_tokens"] > 0


async def test_in_message_style_a_refusal_is_streamed_as_a_message(start_proxy: StartProxy) -> None:
    proxy = await start_proxy(ERROR_STYLE="message")
    *chunks, done = (await proxy.ask("[[status=500]]", stream=True)).events
    assert done == "[DONE]"
    assert "internal error" in content_of(chunks)
    assert chunks[-1]["choices"][0]["finish_reason"] == "error"


async def test_even_in_message_style_a_cut_answer_never_looks_finished(start_proxy: StartProxy) -> None:
    proxy = await start_proxy(ERROR_STYLE="message")
    *chunks, last = (await proxy.ask("[[answer=abcd]][[split=1]][[delay=0.02]][[reset=middle]]", stream=True)).events
    assert content_of(chunks) == "ab"
    assert last["error"]["code"] == "upstream_protocol"


@pytest.mark.parametrize(
    "fields", [{"n": 500}, {"model": "gpt-9"}, {"messages": []}, {"messages": "x"}, {"logprobs": True}]
)
async def test_in_message_style_faults_of_the_request_are_streamed_too(
    start_proxy: StartProxy, fields: dict[str, Any]
) -> None:
    proxy = await start_proxy(ERROR_STYLE="message")
    answer = await proxy.post({**chat(stream=True), **fields})
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/event-stream")
    assert answer.events[-2]["choices"][0]["finish_reason"] == "error"
    assert answer.events[-1] == "[DONE]"


async def test_failures_told_as_messages_are_split_like_answers(start_proxy: StartProxy) -> None:
    proxy = await start_proxy(CONTEXT_LIMIT_TOKENS="10", STREAM_CHUNK_CHARS="20")
    events = (await proxy.ask("x" * 41, stream=True)).events
    assert {len(event["choices"][0]["delta"]["content"]) for event in events[1:-3]} == {20}
    assert content_of(events).endswith("start a new one.")


# Heartbeats


async def test_a_silent_sai_is_bridged_by_heartbeats(start_proxy: StartProxy) -> None:
    proxy = await start_proxy(HEARTBEAT_SECONDS="0.1")
    answer = await proxy.ask("[[answer=at last]][[silence=0.45]]", stream=True)
    head, rest = answer.text.split("\n\n", 1)
    assert '"role":"assistant"' in head
    beats = rest.count(KEEP_ALIVE.decode())
    assert 2 <= beats <= 4
    assert rest.startswith(KEEP_ALIVE.decode() * beats + "data: ")
    assert content_of(answer.events) == "at last"
    assert answer.events[-1] == "[DONE]"


async def test_a_pause_after_sais_head_and_in_mid_answer_is_bridged_too(start_proxy: StartProxy) -> None:
    proxy = await start_proxy(HEARTBEAT_SECONDS="0.1")
    for question in ("[[pause=0.25]]", "[[pieces=2]][[delay=0.25]]"):
        answer = await proxy.ask(f"[[answer=abcd]]{question}", stream=True)
        assert KEEP_ALIVE.decode() in answer.text
        assert content_of(answer.events) == "abcd"


async def test_without_silence_there_is_no_heartbeat(proxy: Proxy) -> None:
    assert "keep-alive" not in (await proxy.ask("[[pieces=5]]", stream=True)).text


@pytest.mark.parametrize(
    ("question", "code"),
    [
        ("[[status=500]]", "upstream_error"),
        ("[[status=401]]", "upstream_auth"),
        ("[[reset=before]]", "upstream_protocol"),
    ],
)
async def test_a_refusal_after_the_first_heartbeat_is_an_event(
    start_proxy: StartProxy, question: str, code: str
) -> None:
    proxy = await start_proxy(HEARTBEAT_SECONDS="0.1")
    answer = await proxy.ask(f"[[silence=0.25]]{question}", stream=True)
    role, last = answer.events
    assert answer.status == 200
    assert role["choices"][0]["delta"]["role"] == "assistant"
    assert last["error"]["code"] == code


async def test_an_overflow_after_the_first_heartbeat_is_told_in_the_stream(start_proxy: StartProxy) -> None:
    proxy = await start_proxy(HEARTBEAT_SECONDS="0.1")
    events = (await proxy.ask("[[silence=0.25]][[overflow]]", stream=True)).events
    assert [event["choices"][0]["delta"].get("role") for event in events[:-1]].count("assistant") == 1
    assert events[-2]["choices"][0]["finish_reason"] == "length"
    assert events[-1] == "[DONE]"


async def test_a_heartbeat_never_repeats_a_call(sai: Simulator, start_proxy: StartProxy) -> None:
    proxy = await start_proxy(HEARTBEAT_SECONDS="0.05")
    answer = await proxy.ask("[[silence=0.3]][[pause=0.3]][[answer=abcd]][[pieces=4]][[delay=0.12]]", stream=True)
    assert content_of(answer.events) == "abcd"
    assert len(sai.calls) == 1


# Clients that leave, and clients that do not read


@pytest.mark.parametrize("question", ["[[silence=forever]]", "[[pause=forever]]", "[[chars=50]][[split=1]][[stall=9]]"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_ends_the_call_within_a_second(
    sai: Simulator, proxy: Proxy, caplog: pytest.LogCaptureFixture, question: str, stream: bool
) -> None:
    caplog.set_level("INFO")
    request = asyncio.ensure_future(proxy.ask(question, stream=stream))
    await until(lambda: sai.calls)
    request.cancel()
    await asyncio.wait_for(sai.calls[0].ended.wait(), 1)
    assert not sai.calls[0].completed
    await until(lambda: "request" in caplog.messages)
    (line,) = request_lines(caplog)
    assert (line["status"], line["client_disconnected"]) == (499, True)


async def test_a_client_that_leaves_between_retries_ends_them(sai: Simulator, start_proxy: StartProxy) -> None:
    proxy = await start_proxy(MAX_RETRIES="20")
    request = asyncio.ensure_future(proxy.ask("[[status=503]][[retry-after=1]]"))
    await until(lambda: sai.calls)
    request.cancel()
    await until(lambda: not proxy.lifecycle.answering)
    assert len(sai.calls) == 1


async def test_a_client_that_stops_reading_holds_sai_back(sai: Simulator, proxy: Proxy) -> None:
    """A client reads nothing of a 64 MB answer: SAI cannot get rid of it, and goes on once it reads."""
    size = 64_000_000
    async with opened(proxy, f"[[chars={size}]][[split=65536]]") as response:
        await until(lambda: sai.calls)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(sai.calls[0].ended.wait(), 1)
        received = 0
        async for piece in response.content.iter_any():
            received += len(piece)
    assert received > size
    assert sai.calls[0].completed


async def test_many_streams_at_once_do_not_queue(sai: Simulator, proxy: Proxy) -> None:
    """aiohttp's default pool of 100 connections would make the rest wait unseen."""
    await proxy.session.close()
    proxy.session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
    requests = [asyncio.ensure_future(proxy.ask("[[silence=forever]]", stream=True)) for _ in range(150)]
    await until(lambda: len(sai.calls) == 150)
    for request in requests:
        request.cancel()
    await asyncio.gather(*requests, return_exceptions=True)
    for call in sai.calls:
        await asyncio.wait_for(call.ended.wait(), 5)
    await proxy.session.close()


def keepalive_timers() -> dict[tuple[int, int], float]:
    """Seconds until the kernel probes a peer, by own and peer's port, of established connections over
    IPv4 that have a keep-alive timer. From Linux' `proc_net_tcp`."""
    timers = {}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, own, peer, state, _, timer, *_ = line.split()
        kind, jiffies = timer.split(":")
        if (state, kind) == ("01", "02"):
            ports = tuple(int(address.split(":")[1], 16) for address in (own, peer))
            timers[ports[0], ports[1]] = int(jiffies, 16) / os.sysconf("SC_CLK_TCK")
    return timers


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="no /proc/net/tcp on this system")
async def test_silent_connections_are_probed_every_minute_on_both_sides(sai: Simulator, proxy: Proxy) -> None:
    """IPVS, which balances a Swarm, forgets a connection that is silent for 15 minutes."""
    asking = asyncio.ensure_future(proxy.ask("[[silence=forever]]", stream=True))
    await until(lambda: sai.calls)
    own, sais = (int(url.rsplit(":", 1)[1]) for url in (proxy.url, sai.url))

    def timers() -> list[float]:
        """Of the connection that the proxy was asked on, and of the one on which it asks."""
        return [seconds for (mine, peers), seconds in keepalive_timers().items() if mine == own or peers == sais]

    await until(lambda: len(timers()) == 2)
    assert all(30 < seconds <= 60 for seconds in timers()), timers()
    asking.cancel()
