"""Request heads that never end, are too long, carry what is no key, or mean two things at once."""

import asyncio
import json

import pytest

from sai_proxy import server
from sai_proxy.simulator import Simulator
from tests.conftest import StartProxy
from tests.faults.raw_client import (
    admission_of,
    all_given_back,
    ask,
    check_no_alarm,
    check_refusal,
    connect,
    connected,
    exchange,
    head,
    read_reply,
    request,
)
from tests.support import Proxy, chat, until

BODY = json.dumps(chat()).encode()
LENGTH = f"Content-Length: {len(BODY)}"
ONE_CHUNK = f"{len(BODY):x}\r\n".encode() + BODY + b"\r\n0\r\n\r\n"
FIELD_OF_1_KIB = "y" * 1_000


def fields(count: int) -> list[str]:
    return [f"x-field-{number:03}: {FIELD_OF_1_KIB}" for number in range(count)]


async def held(proxy: Proxy, size: int) -> None:
    """Returns when all requests together hold this many bytes."""
    await until(lambda: admission_of(proxy).held == size)


# Heads that never end


async def test_heads_that_never_end_are_closed_at_their_deadline_while_others_are_served(
    sai: Simulator, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of 300 connections sends a byte now and then, which does not put off its deadline."""
    monkeypatch.setattr(server, "KEEPALIVE_TIMEOUT_S", 1)
    admission = admission_of(proxy)
    slow = [await connect(proxy) for _ in range(300)]
    for client in slow:
        await client.send(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nx-endless: ")
    await until(lambda: admission.connections == 300)
    ends = asyncio.gather(*(client.ended() for client in slow))
    served = 0
    while not ends.done():
        for client in slow[::10]:
            await asyncio.gather(client.send(b"y"), return_exceptions=True)
        assert (await proxy.ask()).status == 200
        served += 1
    await ends
    assert served == len(sai.calls) > 1
    for client in slow:
        client.close()
    await until(lambda: admission.connections <= 1)
    await all_given_back(proxy)


async def test_a_connection_that_says_nothing_is_closed_at_the_same_deadline(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "KEEPALIVE_TIMEOUT_S", 0.2)
    async with connected(proxy) as client:
        assert await client.receive_all() == b""


async def test_unfinished_heads_count_as_held_until_they_are_complete_or_their_client_leaves(proxy: Proxy) -> None:
    admission = admission_of(proxy)
    begun = head(*fields(10))[:-2]
    clients = [await connect(proxy) for _ in range(5)]
    for client in clients:
        await client.send(begun)
    await until(lambda: admission.held == 5 * len(begun))
    clients[0].close()
    clients[1].reset()
    await until(lambda: admission.held == 3 * len(begun))
    await clients[2].send(f"{LENGTH}\r\nConnection: close\r\n\r\n".encode() + BODY)
    assert (await clients[2].reply()).status == 200
    await until(lambda: admission.held == 2 * len(begun))
    for client in clients[2:]:
        client.close()
    await all_given_back(proxy)


async def test_a_head_for_which_there_is_no_room_is_refused_with_503(start_proxy: StartProxy) -> None:
    proxy = await start_proxy(MAX_BUFFERED_BYTES="50000")
    async with connected(proxy) as first, connected(proxy) as second:
        await first.send(head(*fields(30))[:-2])
        await until(lambda: admission_of(proxy).held)
        await second.send(head(*fields(30))[:-2])
        refused = await second.reply()
        check_refusal(refused, 503, "server_busy")
        assert refused.headers["retry-after"] == "2"
        assert refused.headers["connection"] == "close"
        await first.send(f"{LENGTH}\r\nConnection: close\r\n\r\n".encode() + BODY)
        assert (await first.reply()).status == 200
    await all_given_back(proxy)


# Heads that are too long


async def test_a_head_below_the_limit_is_read_however_it_comes(proxy: Proxy) -> None:
    whole = head(LENGTH, "Connection: close", *fields(60)) + BODY
    assert (await exchange(proxy, whole)).status == 200
    async with connected(proxy) as client:
        for at in range(0, 60_000, 6_000):
            await client.send(whole[at : at + 6_000])
            await held(proxy, at + 6_000)
        await client.send(whole[60_000:])
        assert (await client.reply()).status == 200


async def test_a_head_of_more_than_64_kib_in_one_packet_is_refused(
    sai: Simulator, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    """Each of its fields is short enough; all together are not."""
    reply = await exchange(proxy, head(LENGTH, *fields(100)) + BODY)
    check_refusal(reply, 400)
    assert FIELD_OF_1_KIB.encode() not in reply.body
    assert sai.calls == []
    await all_given_back(proxy)
    check_no_alarm(caplog)


async def test_a_head_that_dribbles_is_refused_when_it_passes_64_kib(proxy: Proxy) -> None:
    piece = ("x-field: " + "y" * 5_989 + "\r\n").encode()
    async with connected(proxy) as client:
        start = head()[:-2]
        await client.send(start)
        for number in range(10):
            await client.send(piece)
            await held(proxy, len(start) + (number + 1) * 6_000)
        await client.send(piece)
        check_refusal(await client.reply(), 400)
    await all_given_back(proxy)


async def test_a_head_that_passes_64_kib_with_its_last_packet_is_refused(sai: Simulator, proxy: Proxy) -> None:
    whole = head(LENGTH, "Connection: close", *fields(100)) + BODY
    async with connected(proxy) as client:
        await client.send(whole[:60_000])
        await until(lambda: admission_of(proxy).held == 60_000)
        await client.send(whole[60_000:])
        check_refusal(await client.reply(), 400)
    assert sai.calls == []


async def test_the_fields_after_a_chunked_body_are_limited_like_those_before_it(sai: Simulator, proxy: Proxy) -> None:
    """They come after the last chunk and before the empty line that ends the request."""
    async with connected(proxy) as client:
        await client.send(head("Transfer-Encoding: chunked", "Connection: close") + ONE_CHUNK[:-2])
        field = f"x-trailer: {'y' * 40_000}\r\n".encode()
        with pytest.raises(ConnectionError):
            await client.send(field * 1_000)
    assert sai.calls == []
    await until(lambda: admission_of(proxy).held == 0)


async def test_requests_that_wait_for_an_earlier_one_of_their_connection_are_limited_in_total(
    sai: Simulator, proxy: Proxy
) -> None:
    """One connection asks, and without waiting asks more, with 30 KB of fields each: the third is too much."""
    async with connected(proxy) as client:
        await client.send(request(chat("[[silence=forever]]")))
        await until(lambda: sai.calls)
        before = admission_of(proxy).held
        await client.send(head(*fields(29), target="GET /health HTTP/1.1") * 2)
        await until(lambda: admission_of(proxy).held > before + 50_000)
        await client.send(head(*fields(29), target="GET /health HTTP/1.1"))
        await asyncio.wait_for(sai.calls[0].ended.wait(), 5)
    await until(lambda: admission_of(proxy).held == 0)


# Too many connections


async def test_more_than_max_connections_are_refused_with_503_and_nothing_else_suffers(start_proxy: StartProxy) -> None:
    proxy = await start_proxy(MAX_CONNECTIONS="20")
    admission = admission_of(proxy)
    assert (await proxy.ask()).status == 200
    idle = [await connect(proxy) for _ in range(19)]
    await until(lambda: admission.connections == 20)
    for _ in range(30):
        async with connected(proxy) as one_more:
            refused = await one_more.reply()  # without having sent a byte
        check_refusal(refused, 503, "server_busy")
        assert refused.headers["retry-after"] == "2"
    assert (await proxy.ask()).status == 200, "on the connection that is open already"
    assert admission.refused["connections"] == 30
    idle.pop().close()
    await until(lambda: admission.connections == 19)
    assert (await exchange(proxy, ask())).status == 200
    for client in idle:
        client.close()
    await until(lambda: admission.connections == 1)


# Keys that cannot be a header's value


@pytest.mark.parametrize(
    "key",
    ["secret\r\nx-evil: 1", "secret\nx", "secret\0", "secretñ", "secret漢字", "secret" + "k" * 20_000],
    ids=["CR LF", "LF", "NUL", "Latin-1", "Chinese", "20 KiB"],
)
async def test_a_key_in_the_body_that_cannot_be_sent_on_is_401_and_never_shown(
    sai: Simulator, proxy: Proxy, caplog: pytest.LogCaptureFixture, key: str
) -> None:
    caplog.set_level("DEBUG")
    reply = await exchange(proxy, ask(litellm_params={"metadata": {"user_api_key": key}}))
    check_refusal(reply, 401, "invalid_api_key")
    assert b"secret" not in reply.body
    assert "secret" not in caplog.text
    assert sai.calls == []


@pytest.mark.parametrize("name", [b"Authorization: Bearer ", b"x-api-key: ", b"user_api_key: ", b"x-user-api-key: "])
@pytest.mark.parametrize(
    "key",
    [b"secret\xf1", "secret漢字".encode(), b"secret\xed\xb3\xbf", b"secret\xff\xfe", b"secret" + b"k" * 20_000],
    ids=["Latin-1", "UTF-8", "lone surrogate", "no text", "20 KiB"],
)
async def test_a_key_in_a_header_that_cannot_be_sent_on_is_401_and_never_shown(
    sai: Simulator, proxy: Proxy, caplog: pytest.LogCaptureFixture, name: bytes, key: bytes
) -> None:
    caplog.set_level("DEBUG")
    data = ask().replace(b"Host: x\r\n", b"Host: x\r\n" + name + key + b"\r\n")
    reply = await exchange(proxy, data)
    check_refusal(reply, 401, "invalid_api_key")
    assert b"secret" not in reply.body
    assert "secret" not in caplog.text
    assert sai.calls == []


# Requests that mean two things at once

CHUNKED = "Transfer-Encoding: chunked"
AMBIGUOUS = {
    "length and chunks": head(LENGTH, CHUNKED) + BODY,
    "chunks and length": head(CHUNKED, LENGTH) + ONE_CHUNK,
    "two lengths": head("Content-Length: 5", LENGTH) + BODY,
    "the same length twice": head(LENGTH, LENGTH) + BODY,
    "a list of lengths": head(f"{LENGTH}, {len(BODY)}") + BODY,
    "a length with a sign": head(f"Content-Length: +{len(BODY)}") + BODY,
    "a negative length": head("Content-Length: -5") + BODY,
    "a length with an underscore": head("Content-Length: 7_5") + BODY,
    "a hexadecimal length": head("Content-Length: 0x4b") + BODY,
    "an empty length": head("Content-Length:") + BODY,
    "a length past 64 bits": head("Content-Length: 99999999999999999999999") + BODY,
    "a blank before the colon": head(f"Content-Length : {len(BODY)}") + BODY,
    "an unknown coding": head("Transfer-Encoding: xchunked") + ONE_CHUNK,
    "a coding after chunks": head("Transfer-Encoding: chunked, identity") + ONE_CHUNK,
    "a control character before the coding": head("Transfer-Encoding: \x0bchunked") + ONE_CHUNK,
    "chunked twice": head(CHUNKED, CHUNKED) + ONE_CHUNK,
    "identity": head("Transfer-Encoding: identity", LENGTH) + BODY,
    "bare LF everywhere": head(LENGTH).replace(b"\r\n", b"\n") + BODY,
    "bare LF after one field": head(LENGTH).replace(b"Host: x\r\n", b"Host: x\n") + BODY,
    "bare CR in a field": head("x-a: b\rTransfer-Encoding: chunked", LENGTH) + BODY,
    "NUL in a field": head("x-a: b\0c", LENGTH) + BODY,
    "a folded field": head("x-a: b", " Transfer-Encoding: chunked", LENGTH) + BODY,
    "LF in a chunk's extension": head(CHUNKED) + ONE_CHUNK.replace(b"\r\n", b";a\nb\r\n", 1),
    "LF after a chunk's size": head(CHUNKED) + ONE_CHUNK.replace(b"\r\n", b"\n"),
    "a chunk longer than its size": head(CHUNKED) + ONE_CHUNK.replace(b"\r\n0", b"XX\r\n0"),
    "a negative chunk": head(CHUNKED) + b"-" + ONE_CHUNK,
    "a chunk's size with 0x": head(CHUNKED) + b"0x" + ONE_CHUNK,
    "a chunk's size past 64 bits": head(CHUNKED) + b"fffffffffffffffff\r\n" + BODY,
    "no host": head(LENGTH).replace(b"Host: x\r\n", b"") + BODY,
    "two hosts": head("Host: y", LENGTH) + BODY,
    "too many fields": head(LENGTH, *(f"x-{number}: y" for number in range(200))) + BODY,
    "HTTP/2 without asking": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a version to come": request(chat(), target="POST /v1/chat/completions HTTP/3.7"),
}


@pytest.mark.parametrize("data", AMBIGUOUS.values(), ids=AMBIGUOUS)
async def test_a_request_that_can_be_read_in_two_ways_is_refused_and_ends_its_connection(
    sai: Simulator, proxy: Proxy, caplog: pytest.LogCaptureFixture, data: bytes
) -> None:
    """A proper request stands behind it, which another reader might take for a part of it, or not."""
    reply = await exchange(proxy, data + ask("smuggled"))
    check_refusal(reply, 400)
    assert reply.body.count(b"HTTP/1") == 0, "there is one answer"
    assert sai.calls == []
    assert (await exchange(proxy, ask())).status == 200, "others are served"
    await all_given_back(proxy)
    check_no_alarm(caplog)


async def test_a_body_is_never_read_as_a_request(sai: Simulator, start_proxy: StartProxy) -> None:
    """Whatever becomes of the request that it belongs to: answered, of the wrong method, unknown, too long."""
    proxy = await start_proxy(MAX_BODY_BYTES="100")
    hidden = ask("smuggled")
    for target, status in (
        ("GET /health HTTP/1.1", 200),
        ("PUT /v1/chat/completions HTTP/1.1", 405),
        ("POST /v1/nothing HTTP/1.1", 404),
        ("POST /v1/chat/completions HTTP/1.1", 413),
    ):
        data = request(hidden, target=target) + head("Connection: close", target="GET /v1/models HTTP/1.1")
        async with connected(proxy) as client:
            await client.send(data)
            received = await client.receive_all()
        assert received.startswith(f"HTTP/1.1 {status} ".encode())
        assert received.count(b"HTTP/1.1 ") == 2, "one answer to the request, one to the next"
        assert b'"sai-model"' in received.rpartition(b"HTTP/1.1 ")[2]
    assert sai.calls == []


async def test_a_good_request_before_a_malformed_one_gets_its_answer(sai: Simulator, proxy: Proxy) -> None:
    async with connected(proxy) as client:
        await client.send(request(chat("[[silence=0.1]]")))
        await until(lambda: sai.calls)
        await client.send(AMBIGUOUS["length and chunks"] + ask("smuggled"))
        received = await client.receive_all()
    answers = received.split(b"HTTP/1.")[1:]
    assert [answer.split()[1] for answer in answers] == [b"200", b"400"]
    assert len(sai.calls) == 1


async def test_fields_after_a_chunked_body_name_no_credentials(sai: Simulator, proxy: Proxy) -> None:
    trailer = ONE_CHUNK[:-2] + b"x-api-key: evil\r\nAuthorization: Bearer evil\r\n\r\n"
    reply = await exchange(proxy, head(CHUNKED, "Connection: close", "x-api-key: mine") + trailer)
    assert reply.status == 200
    assert [call.key for call in sai.calls] == ["mine"]


# Odd, but HTTP


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("GET /v1/chat/completions HTTP/1.1", 405),
        ("PUT /v1/chat/completions HTTP/1.1", 405),
        ("DELETE /v1/completions HTTP/1.1", 405),
        ("TRACE /v1/chat/completions HTTP/1.1", 405),
        ("OPTIONS /v1/chat/completions HTTP/1.1", 405),
        ("OPTIONS * HTTP/1.1", 404),
        ("POST /v1/models HTTP/1.1", 405),
        ("GET /v1/nothing HTTP/1.1", 404),
        ("GET //v1/models HTTP/1.1", 404),
        ("GET /../../etc/passwd HTTP/1.1", 404),
        ("GET http://elsewhere.example/nothing HTTP/1.1", 404),
        ("CONNECT elsewhere.example:443 HTTP/1.1", 404),
        ("BREW /v1/chat/completions HTTP/1.1", 400),
        ("post /v1/chat/completions HTTP/1.1", 400),
        ("GET /v1/models\t HTTP/1.1", 400),
        ("GET http://[::1/x HTTP/1.1", 400),
    ],
)
async def test_a_wrong_method_or_path_is_an_openai_error(
    sai: Simulator, proxy: Proxy, caplog: pytest.LogCaptureFixture, target: str, status: int
) -> None:
    reply = await exchange(proxy, head("Connection: close", target=target))
    check_refusal(reply, status)
    assert int(reply.headers["content-length"]) == len(reply.body)
    assert ("allow" in reply.headers) == (status == 405)
    assert sai.calls == []
    check_no_alarm(caplog)


@pytest.mark.parametrize(("path", "status"), [("/health", 200), ("/v1/chat/completions", 405), ("/v1/nothing", 404)])
async def test_an_answer_to_head_has_no_body_and_the_next_one_is_in_its_place(
    proxy: Proxy, path: str, status: int
) -> None:
    async with connected(proxy) as client:
        await client.send(head(target=f"HEAD {path} HTTP/1.1"))
        first = read_reply(await client.receive_until(b"\r\n\r\n"), ended=False)
        assert (first.status, first.body) == (status, b"")
        assert int(first.headers["content-length"]) > 0
        assert first.headers["x-request-id"]
        await client.send(ask())
        assert (await client.reply()).status == 200


@pytest.mark.parametrize("stream", [False, True])
async def test_an_http_1_0_client_gets_answers_without_chunks(proxy: Proxy, stream: bool) -> None:
    reply = await exchange(proxy, request(chat(stream=stream), target="POST /v1/chat/completions HTTP/1.0"))
    assert reply.status == 200
    assert "transfer-encoding" not in reply.headers
    assert reply.body.endswith(b"data: [DONE]\n\n" if stream else b"}")


async def test_a_client_that_waits_for_100_continue_is_told_to_go_on(sai: Simulator, proxy: Proxy) -> None:
    async with connected(proxy) as client:
        await client.send(head(LENGTH, "Expect: 100-continue", "Connection: close"))
        assert await client.receive_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert sai.calls == []
        await client.send(BODY)
        assert (await client.reply()).status == 200
    reply = await exchange(proxy, head(LENGTH, "Expect: miracles", "Connection: close") + BODY)
    check_refusal(reply, 400)


async def test_requests_in_one_packet_are_answered_in_their_order(sai: Simulator, proxy: Proxy) -> None:
    texts = [f"question {number}" for number in range(5)]
    async with connected(proxy) as client:
        await client.send(b"".join(request(chat(text)) for text in texts) + ask("last"))
        received = (await client.receive_all()).decode()
    assert received.count("HTTP/1.1 200 OK") == 6
    assert [received.index(f"«{text}»") for text in texts] == sorted(received.index(f"«{text}»") for text in texts)
    assert [call.body["inputs"]["user"] for call in sai.calls] == [*texts, "last"]
    await all_given_back(proxy)
