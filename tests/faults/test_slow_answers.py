"""SAI is slow, or stops: U5, U6, U7."""

import asyncio

import pytest

from tests.faults.played_sai import Behaviour, Call, PlayedSai, chunk, chunked, played_sai, say_nothing, whole
from tests.faults.watched import Watched, watched_proxy
from tests.integration.raw_upstream import head
from tests.support import free_port, until

PLAIN = "Content-Type: text/plain"


async def expect_left(sai: PlayedSai) -> None:
    """The proxy has closed its connection."""
    await until(lambda: not sai.open)


async def begin_the_head(call: Call) -> None:
    await call.send(b"HTTP/1.1 200 OK\r\nContent-Ty")
    await asyncio.Event().wait()


@pytest.mark.parametrize("behaviour", [say_nothing, begin_the_head], ids=["nothing", "half a head"])
async def test_u5_a_stall_before_the_headers_is_504_after_the_request_timeout(
    stream: bool, behaviour: Behaviour
) -> None:
    """Without a heartbeat before it, a stream's status is a real one, too."""
    async with (
        played_sai(behaviour) as sai,
        watched_proxy(sai, REQUEST_TIMEOUT="0.3", MAX_RETRIES="3") as proxy,
    ):
        outcome = await proxy.ask(stream=stream)
        assert (outcome.status, outcome.code) == (504, "upstream_timeout")
        assert len(sai.calls) == 1, "SAI may have run it"
        await expect_left(sai)


async def test_u5_a_streams_client_hears_heartbeats_until_the_failure_is_an_event() -> None:
    async with (
        played_sai(say_nothing) as sai,
        watched_proxy(sai, REQUEST_TIMEOUT="0.6", HEARTBEAT_SECONDS="0.1", MAX_RETRIES="3") as proxy,
    ):
        outcome = await proxy.ask(stream=True)
        assert (outcome.status, outcome.code) == (200, "upstream_timeout")
        assert outcome.heartbeats >= 2
        assert len(sai.calls) == 1
        await expect_left(sai)


async def begin_and_stall(call: Call) -> None:
    await call.send(chunked(b"Once ", b"upon", ended=False))
    await asyncio.Event().wait()


async def begin_with_length_and_stall(call: Call) -> None:
    await call.send(head(PLAIN, "Content-Length: 100") + b"Once upon")
    await asyncio.Event().wait()


async def answer_without_the_last_chunk(call: Call) -> None:
    """All the text has come, but nothing says so."""
    await call.send(chunked(b"Once upon", ended=False) + b"0\r\n")
    await asyncio.Event().wait()


@pytest.mark.parametrize("behaviour", [begin_and_stall, begin_with_length_and_stall, answer_without_the_last_chunk])
async def test_u6_a_stall_in_mid_answer_ends_it_after_the_idle_timeout(stream: bool, behaviour: Behaviour) -> None:
    async with (
        played_sai(behaviour) as sai,
        watched_proxy(sai, STREAM_IDLE_TIMEOUT="0.5", HEARTBEAT_SECONDS="0.1", MAX_RETRIES="3") as proxy,
    ):
        outcome = await proxy.ask(stream=stream)
        assert outcome.code == "upstream_timeout"
        assert outcome.status == (200 if stream else 504)
        if stream:
            assert outcome.text == "Once upon"
            assert outcome.heartbeats >= 2
        else:
            assert "Once" not in outcome.answer.text
        assert len(sai.calls) == 1
        await expect_left(sai)


async def test_u6_a_stall_after_the_head_ends_after_the_idle_timeout(stream: bool) -> None:
    async def head_alone(call: Call) -> None:
        await call.send(head(PLAIN, "Transfer-Encoding: chunked"))
        await asyncio.Event().wait()

    async with played_sai(head_alone) as sai, watched_proxy(sai, STREAM_IDLE_TIMEOUT="0.3") as proxy:
        outcome = await proxy.ask(stream=stream)
        assert (outcome.status, outcome.code) == (200 if stream else 504, "upstream_timeout")
        await expect_left(sai)


def dripping(text: bytes, pause_s: float) -> Behaviour:
    async def drip(call: Call) -> None:
        await call.send(head(PLAIN, "Transfer-Encoding: chunked"))
        for byte in text:
            await call.send(chunk(bytes([byte])))
            await asyncio.sleep(pause_s)
        await call.send(b"0\r\n\r\n")

    return drip


async def test_u7_a_slow_drip_is_relayed_though_it_outlasts_the_idle_timeout(stream: bool) -> None:
    async with (
        played_sai(dripping(b"Once upon", 0.1)) as sai,
        watched_proxy(sai, STREAM_IDLE_TIMEOUT="0.6") as proxy,
    ):
        outcome = await proxy.ask(stream=stream)
        assert (outcome.text, outcome.finish_reason) == ("Once upon", "stop")
        (line,) = proxy.requests
        assert line["duration_s"] > 0.6


@pytest.mark.parametrize("variable", ["REQUEST_DEADLINE", "REQUEST_TIMEOUT"])
async def test_u7_a_drip_without_an_end_is_ended_by_the_deadline(stream: bool, variable: str) -> None:
    async with (
        played_sai(dripping(b"x" * 1_000, 0.05)) as sai,
        watched_proxy(sai, **{variable: "0.5"}) as proxy,
    ):
        outcome = await proxy.ask(stream=stream)
        assert outcome.code == "upstream_timeout"
        assert outcome.status == (200 if stream else 504)
        if stream:
            assert 0 < len(outcome.text) < 100
        assert len(sai.calls) == 1
        await expect_left(sai)


async def test_u7_a_dripping_head_is_ended_by_the_request_timeout(stream: bool) -> None:
    async def drip_fields(call: Call) -> None:
        await call.send(b"HTTP/1.1 200 OK\r\n")
        for number in range(1_000):
            await call.send(b"X-%d: 1\r\n" % number)
            await asyncio.sleep(0.05)

    async with played_sai(drip_fields) as sai, watched_proxy(sai, REQUEST_TIMEOUT="0.4") as proxy:
        outcome = await proxy.ask(stream=stream)
        assert (outcome.status, outcome.code) == (504, "upstream_timeout")
        await expect_left(sai)


async def expect_deadline(proxy: Watched, *, stream: bool) -> None:
    outcome = await proxy.ask(stream=stream)
    assert outcome.status in (503, 504)
    (line,) = proxy.requests
    assert line["duration_s"] < 5
    assert 1 < line["attempts"] < 20


async def test_u7_the_deadline_bounds_the_tries_to_connect(stream: bool) -> None:
    """Twenty of them would take two minutes."""
    async with watched_proxy(f"http://127.0.0.1:{free_port()}", MAX_RETRIES="20", REQUEST_DEADLINE="1") as proxy:
        await expect_deadline(proxy, stream=stream)


async def test_u7_the_deadline_bounds_the_tries_after_a_status(stream: bool) -> None:
    async with (
        played_sai(whole("busy", status="503 Service Unavailable")) as sai,
        watched_proxy(sai, MAX_RETRIES="20", REQUEST_DEADLINE="1") as proxy,
    ):
        await expect_deadline(proxy, stream=stream)


async def test_u7_a_wait_that_would_outlast_the_deadline_is_not_begun(stream: bool) -> None:
    async with (
        played_sai(whole("busy", "Retry-After: 5", status="503 Service Unavailable")) as sai,
        watched_proxy(sai, MAX_RETRIES="20", REQUEST_DEADLINE="4") as proxy,
    ):
        outcome = await proxy.ask(stream=stream)
        assert (outcome.status, outcome.code) == (503, "upstream_unavailable")
        assert outcome.headers["Retry-After"] == "5"
        assert len(sai.calls) == 1


async def test_u7_the_deadline_is_one_for_all_credentials(stream: bool) -> None:
    async def limit_slowly(call: Call) -> None:
        await asyncio.sleep(0.4)
        if call.key:
            await call.send(whole("limit", status="429 Too Many Requests"))
        else:
            await asyncio.Event().wait()

    async with played_sai(limit_slowly) as sai, watched_proxy(sai, REQUEST_DEADLINE="0.8") as proxy:
        outcome = await proxy.ask(stream=stream)
        assert (outcome.status, outcome.code) == (504, "upstream_timeout")
        assert len(sai.calls) == 2
        (line,) = proxy.requests
        assert line["duration_s"] < 5
        await expect_left(sai)
