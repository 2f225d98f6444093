"""Clients that leave before their answer is complete, and clients that only stop sending."""

import asyncio
import json
from typing import Any

import pytest

from sai_proxy.simulator import Simulator
from tests.conftest import StartProxy
from tests.faults.raw_client import (
    Client,
    admission_of,
    all_given_back,
    ask,
    check_no_alarm,
    connect,
    connected,
    head,
    line_of,
    lines_of,
    read_reply,
    request,
)
from tests.support import Proxy, chat, content_of, read_events, until

LEFT_WITHIN_S = 1

WAITS = {
    "before SAI's status": "[[silence=forever]]",
    "before SAI's first byte": "[[pause=forever]]",
    "in the middle of SAI's answer": "[[chars=50]][[split=1]][[stall=9]]",
}
SHAPES: dict[str, dict[str, Any]] = {
    "whole": {},
    "streamed": {"stream": True},
    "three choices": {"n": 3},
    "three choices, streamed": {"n": 3, "stream": True},
}


def leave(client: Client, how: str) -> None:
    if how == "half-closes and closes":
        client.stop_sending()
    if how == "resets":
        client.reset()
    else:
        client.close()


async def check_all_ended(proxy: Proxy, sai: Simulator, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing of the one request is left but its line."""
    for call in sai.calls:
        await asyncio.wait_for(call.ended.wait(), LEFT_WITHIN_S)
        assert not call.completed
    line = await line_of(caplog)
    assert (line["status"], line["client_disconnected"]) == (499, True)
    assert "error" not in line
    await all_given_back(proxy)
    await until(lambda: admission_of(proxy).connections == 0)
    check_no_alarm(caplog)


@pytest.mark.parametrize("how", ["closes", "resets", "half-closes and closes"])
@pytest.mark.parametrize("fields", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("question", WAITS.values(), ids=WAITS)
async def test_a_client_that_leaves_ends_its_calls_to_sai_within_a_second(
    sai: Simulator,
    proxy: Proxy,
    caplog: pytest.LogCaptureFixture,
    question: str,
    fields: dict[str, Any],
    how: str,
) -> None:
    caplog.set_level("INFO")
    async with connected(proxy) as client:
        await client.send(request(chat(question, **fields)))
        await until(lambda: len(sai.calls) == fields.get("n", 1))
        if question != WAITS["before SAI's status"] and fields.get("stream"):
            await client.receive_until(b'"content":"E' if "stall" in question else b'"role"')
        leave(client, how)
        await check_all_ended(proxy, sai, caplog)


@pytest.mark.parametrize("how", ["closes", "resets"])
async def test_a_client_that_leaves_while_its_body_arrives_holds_nothing(
    sai: Simulator, proxy: Proxy, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    caplog.set_level("INFO")
    async with connected(proxy) as client:
        await client.send(head("Content-Length: 100000") + b"{" * 50_000)
        await until(lambda: admission_of(proxy).held == 50_000)
        leave(client, how)
        await check_all_ended(proxy, sai, caplog)
    assert sai.calls == []


async def test_a_client_that_stops_sending_in_mid_body_has_left(
    sai: Simulator, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    """Unlike one whose request is complete: nothing can come of it."""
    caplog.set_level("INFO")
    async with connected(proxy) as client:
        await client.send(head("Content-Length: 100000") + b"{")
        await until(lambda: admission_of(proxy).held == 1)
        client.stop_sending()
        assert await client.receive_all() == b""
        await check_all_ended(proxy, sai, caplog)


async def test_a_client_that_leaves_between_two_tries_ends_them(
    sai: Simulator, start_proxy: StartProxy, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    proxy = await start_proxy(MAX_RETRIES="20")
    async with connected(proxy) as client:
        await client.send(request(chat("[[status=503]][[retry-after=3]]")))
        await until(lambda: sai.calls and sai.calls[0].ended.is_set())
        client.close()
        await all_given_back(proxy)
    line = await line_of(caplog)
    assert (line["status"], line["attempts"]) == (499, 1)
    assert len(sai.calls) == 1
    check_no_alarm(caplog)


async def test_a_client_that_leaves_between_heartbeats_ends_the_call(
    sai: Simulator, start_proxy: StartProxy, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    proxy = await start_proxy(HEARTBEAT_SECONDS="0.1")
    async with connected(proxy) as client:
        await client.send(request(chat("[[silence=forever]]", stream=True)))
        await client.receive_until(b": keep-alive\n")
        client.close()
        await check_all_ended(proxy, sai, caplog)


async def test_a_client_that_leaves_with_requests_waiting_on_its_connection_ends_them_all(
    sai: Simulator, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with connected(proxy) as client:
        await client.send(request(chat("[[silence=forever]]")) * 10)
        await until(lambda: sai.calls)
        client.close()
        await check_all_ended(proxy, sai, caplog)
    assert len(sai.calls) == 1


async def test_a_hundred_clients_that_leave_at_once_leave_nothing(
    sai: Simulator, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    """Half of them from streams that have begun; another client is answered meanwhile."""
    caplog.set_level("INFO")
    stays = asyncio.ensure_future(proxy.ask("[[answer=stayed]][[silence=0.5]]"))
    clients = [await connect(proxy) for _ in range(100)]
    for number, client in enumerate(clients):
        await client.send(request(chat("[[pieces=4]][[stall=2]]", stream=bool(number % 2))))
    for client in clients[1::2]:
        await client.receive_until(b'"content":"SAI')
    await until(lambda: len(sai.calls) == 101)
    for client in clients:
        client.close()
    for call in sai.calls:
        await asyncio.wait_for(call.ended.wait(), 5)
    assert (await stays).content == "stayed"
    await until(lambda: len(lines_of(caplog)) == 101)
    assert sorted(line["status"] for line in lines_of(caplog)) == [200] + [499] * 100
    await all_given_back(proxy)
    check_no_alarm(caplog)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_a_client_that_leaves_just_before_its_answer_comes_is_no_error(
    sai: Simulator, proxy: Proxy, caplog: pytest.LogCaptureFixture, stream: bool
) -> None:
    """SAI answers before anybody can have found out that the client is gone."""
    caplog.set_level("INFO")
    for number in range(5):
        async with connected(proxy) as client:
            await client.send(request(chat("[[silence=0.04]]", stream=stream)))
            await until(lambda so_far=number: len(sai.calls) > so_far)  # type: ignore[misc]
        await all_given_back(proxy)
    await until(lambda: len(lines_of(caplog)) == 5)
    # An answer that is there at once goes out in one piece: the kernel takes it, and hears only afterwards that nobody
    # wants it.
    assert {line["status"] for line in lines_of(caplog)} <= {200, 499}
    check_no_alarm(caplog)


# Clients that stop sending, and wait for their answer


ANSWERS = {
    "later": "[[answer=abcdef]][[silence=0.3]]",
    "in pieces": "[[answer=abcdef]][[pieces=3]][[delay=0.15]]",
    "after a pause": "[[answer=abcdef]][[pause=0.3]]",
}


@pytest.mark.parametrize("question", ANSWERS.values(), ids=ANSWERS)
@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_a_client_that_only_stops_sending_gets_all_of_its_answer(
    sai: Simulator, proxy: Proxy, caplog: pytest.LogCaptureFixture, question: str, version: str, stream: bool
) -> None:
    caplog.set_level("INFO")
    async with connected(proxy) as client:
        target = f"POST /v1/chat/completions HTTP/{version}"
        await client.send(request(chat(question, stream=stream), target=target))
        await until(lambda: sai.calls)
        client.stop_sending()
        received = await client.receive_all()
    reply = read_reply(received)
    assert reply.status == 200
    if not stream:
        assert json.loads(reply.body)["choices"][0]["message"]["content"] == "abcdef"
        assert int(reply.headers["content-length"]) == len(reply.body)
    else:
        events = read_events(unchunked(reply.body) if version == "1.1" else reply.body.decode())
        assert content_of(events) == "abcdef"
        assert events[-1] == "[DONE]"
    line = await line_of(caplog)
    assert (line["status"], line["client_disconnected"]) == (200, False)
    await all_given_back(proxy)
    check_no_alarm(caplog)


def unchunked(body: bytes) -> str:
    """A body that came in chunks, all of them."""
    text = b""
    while True:
        size, _, rest = body.partition(b"\r\n")
        length = int(size, 16)
        if not length:
            assert rest == b"\r\n"
            return text.decode()
        text += rest[:length]
        body = rest[length + 2 :]


async def test_a_client_that_stops_sending_gets_each_of_its_choices(sai: Simulator, proxy: Proxy) -> None:
    async with connected(proxy) as client:
        await client.send(request(chat("[[answer=abc]][[silence=0.2]]", n=3)))
        await until(lambda: len(sai.calls) == 3)
        client.stop_sending()
        reply = await client.reply()
    assert [choice["message"]["content"] for choice in json.loads(reply.body)["choices"]] == ["abc"] * 3


async def test_a_client_that_stops_sending_gets_its_refusal(sai: Simulator, proxy: Proxy) -> None:
    async with connected(proxy) as client:
        await client.send(request(chat("[[silence=0.2]][[status=500]]")))
        await until(lambda: sai.calls)
        client.stop_sending()
        reply = await client.reply()
    assert (reply.status, reply.error["code"]) == (502, "upstream_error")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_a_client_that_stops_sending_with_its_last_byte_gets_its_answer(proxy: Proxy, stream: bool) -> None:
    """The request and the end of sending arrive together, as from `nc -N`."""
    async with connected(proxy) as client:
        await client.send(ask("[[answer=abc]]", stream=stream))
        client.stop_sending()
        reply = await client.reply()
    assert reply.status == 200


@pytest.mark.parametrize("fields", SHAPES.values(), ids=SHAPES)
async def test_a_client_that_stops_sending_and_leaves_a_moment_later_ends_its_calls(
    sai: Simulator, proxy: Proxy, caplog: pytest.LogCaptureFixture, fields: dict[str, Any]
) -> None:
    """At first it looks like one that waits for its answer."""
    caplog.set_level("INFO")
    async with connected(proxy) as client:
        await client.send(request(chat("[[chars=50]][[split=1]][[stall=9]]", **fields)))
        await until(lambda: len(sai.calls) == fields.get("n", 1))
        client.stop_sending()
        await client.receive()  # a probe, at the latest
        client.close()
        await check_all_ended(proxy, sai, caplog)
