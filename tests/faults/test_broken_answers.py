"""SAI's answer is cut, malformed, or odd: U4, U8 to U14, U17."""

import asyncio
import gzip
import json
import logging
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sai_proxy.errors import UpstreamProtocolError
from sai_proxy.sai_api.inflate import body_decoder
from tests.faults.played_sai import (
    Behaviour,
    Call,
    PlayedSai,
    chunk,
    chunked,
    end,
    one_after_another,
    played_sai,
    reset,
    whole,
)
from tests.faults.watched import Outcome, Watched, watched_proxy
from tests.integration.raw_upstream import head
from tests.support import Process, environment, fields_of, running_process, until

MIB = 2**20
PLAIN = "Content-Type: text/plain; charset=utf-8"
HELLO = whole("hello", PLAIN)
SECRET = "dXNlci1vbmUtc2VjcmV0LXRleHQ"


@asynccontextmanager
async def asked(behaviour: Behaviour | bytes, **changes: str) -> AsyncIterator[tuple[PlayedSai, Watched]]:
    async with played_sai(behaviour) as sai, watched_proxy(sai, **changes) as proxy:
        yield sai, proxy


def expect_cut(outcome: Outcome, stream: bool, text: str) -> None:
    """What had arrived and then the failure, or the failure alone."""
    assert outcome.code == "upstream_protocol"
    assert outcome.status == (200 if stream else 502)
    if stream:
        assert outcome.text == text
    else:
        assert "choices" not in outcome.answer.json


FRAMED = {
    "chunked": chunked(b"Once upon ", b"a time", ended=False),
    "in mid-chunk": chunked(b"Once upon ", ended=False) + b"ff\r\na time",
    "with length": head(PLAIN, "Content-Length: 1000") + b"Once upon a time",
    "one byte short": head(PLAIN, "Content-Length: 17") + b"Once upon a time",
    "in mid-character": chunked(b"Once upon a time", "ñ".encode()[:1], ended=False),
}
HOW = {"reset": reset, "closed": end}


@pytest.mark.parametrize("how", HOW.values(), ids=HOW)
@pytest.mark.parametrize("response", FRAMED.values(), ids=FRAMED)
async def test_u4_u8_an_answer_that_breaks_off_never_looks_finished(
    stream: bool, response: bytes, how: Behaviour
) -> None:
    async def send_and_break(call: Call) -> None:
        await call.send(response)
        await asyncio.sleep(0.1)  # the text has to be out before the connection is
        await how(call)

    async with asked(send_and_break, MAX_RETRIES="3") as (sai, proxy):
        expect_cut(await proxy.ask(stream=stream), stream, "Once upon a time")
        assert len(sai.calls) == 1, "SAI may have billed it"


async def close_at_once(call: Call) -> None:
    call.send_soon(FRAMED["chunked"])
    call.end()


async def test_u4_text_that_arrives_together_with_the_end_of_its_connection_is_not_finished(stream: bool) -> None:
    async with asked(close_at_once, MAX_RETRIES="3") as (sai, proxy):
        outcome = await proxy.ask(stream=stream)
        assert (outcome.status, outcome.code) == (200 if stream else 502, "upstream_protocol")
        assert len(sai.calls) == 1


async def test_u4_text_that_arrives_together_with_the_end_of_its_connection_is_relayed() -> None:
    async with asked(close_at_once) as (_, proxy):
        expect_cut(await proxy.ask(stream=True), True, "Once upon a time")


UNTIL_CLOSED = head(PLAIN, "Connection: close") + b"Once upon a time"


async def test_u4_an_answer_may_end_with_its_connection(stream: bool) -> None:
    async def send_and_end(call: Call) -> None:
        await call.send(UNTIL_CLOSED)
        call.end()

    async with asked(send_and_end) as (_, proxy):
        for _ in range(2):
            outcome = await proxy.ask(stream=stream)
            assert (outcome.text, outcome.finish_reason) == ("Once upon a time", "stop")


async def test_u4_but_not_with_its_connections_reset(stream: bool) -> None:
    async def send_and_reset(call: Call) -> None:
        await call.send(UNTIL_CLOSED)
        await asyncio.sleep(0.1)
        call.reset()

    async with asked(send_and_reset) as (_, proxy):
        expect_cut(await proxy.ask(stream=stream), stream, "Once upon a time")


GARBAGE = {
    "no HTTP": b"SAI/9 fine\r\n\r\n",
    "no status": b"HTTP/1.1 fine\r\n\r\n",
    "a banner": b"SSH-2.0-OpenSSH_9.6\r\n",
    "bytes": bytes(range(128, 256)) * 4,
    "a field without a name": head(": value"),
    "a field without a colon": head("X-Broken"),
    "a NUL in a field": head("X-Broken: a\0b"),
    "a length that is no number": head("Content-Length: many") + b"hello",
    "a negative length": head("Content-Length: -1") + b"hello",
    "two lengths": head("Content-Length: 5", "Content-Length: 6") + b"hello!",
    "length and chunks": head("Content-Length: 5", "Transfer-Encoding: chunked") + chunk(b"hello") + b"0\r\n\r\n",
    "a chunk size that is none": head("Transfer-Encoding: chunked") + b"ZZ\r\nhello\r\n",
    "a negative chunk size": head("Transfer-Encoding: chunked") + b"-5\r\nhello\r\n",
    "a huge chunk size": head("Transfer-Encoding: chunked") + b"f" * 17 + b"\r\nhello\r\n",
    "a chunk longer than its size": head("Transfer-Encoding: chunked") + b"3\r\nhello\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("response", GARBAGE.values(), ids=GARBAGE)
async def test_u9_what_is_no_http_is_502_and_its_connection_is_never_used_again(stream: bool, response: bytes) -> None:
    async with asked(one_after_another(response, HELLO), MAX_RETRIES="3", REQUEST_TIMEOUT="5") as (sai, proxy):
        outcome = await proxy.ask(stream=stream)
        assert outcome.code == "upstream_protocol"
        assert outcome.begun or outcome.status == 502
        assert len(sai.calls) == 1
        assert (await proxy.ask(stream=stream)).text == "hello"
        assert sai.connections_of_calls == [1, 2]


async def test_u9_a_malformed_chunk_in_mid_answer_ends_it_at_once(stream: bool) -> None:
    async def begin_well(call: Call) -> None:
        await call.send(chunked(b"Once", ended=False))
        await begun.wait()
        await call.send(b"ZZ\r\n")

    begun = asyncio.Event()
    async with asked(begin_well) as (sai, proxy):
        asking = asyncio.ensure_future(proxy.ask(stream=stream))
        await until(lambda: sai.calls)
        begun.set()
        expect_cut(await asyncio.wait_for(asking, 5), stream, "Once")
        await until(lambda: not sai.open)


async def next_user(proxy: Watched, sai: PlayedSai, *, stream: bool) -> None:
    """Asks with another key, and gets an answer of its own over a connection of its own."""
    outcome = await proxy.ask(stream=stream, key="another-users-key")
    assert (outcome.status, outcome.text) == (200, "hello")
    assert SECRET not in outcome.answer.text
    assert sai.keys == ["one-users-key", "another-users-key"]
    assert sai.connections_of_calls == [1, 2]


EXTRA = {
    "a second answer": whole(SECRET, PLAIN),
    "a timeout": whole("", "Connection: close", status="408 Request Timeout"),
    "no HTTP": b"and some bytes more",
    "one byte": b"x",
    "a thousand answers": whole(SECRET, PLAIN) * 1000,
}
BEGUN = b"HTTP/1.1 200 OK\r\nContent-Ty"
REST = b"pe: text/plain\r\nContent-Length: %d\r\n\r\n%s" % (len(SECRET), SECRET.encode())


@pytest.mark.parametrize("framed", [whole("mine", PLAIN), chunked(b"mine")], ids=["with length", "chunked"])
@pytest.mark.parametrize("extra", EXTRA.values(), ids=EXTRA)
async def test_u10_bytes_too_many_in_the_answers_packet_touch_neither_it_nor_the_next_user(
    stream: bool, extra: bytes, framed: bytes
) -> None:
    async with asked(one_after_another(framed + extra, HELLO)) as (sai, proxy):
        assert (await proxy.ask(stream=stream, key="one-users-key")).text == "mine"
        await next_user(proxy, sai, stream=stream)


@pytest.mark.parametrize("extra", EXTRA.values(), ids=EXTRA)
async def test_u10_what_arrives_on_an_idle_connection_never_reaches_the_next_user(stream: bool, extra: bytes) -> None:
    async def answer_twice(call: Call) -> None:
        if call.number > 1:
            await call.send(HELLO)
            return
        await call.send(whole("mine", PLAIN))
        await answered.wait()
        await call.send(extra)
        sent.set()

    answered, sent = asyncio.Event(), asyncio.Event()
    async with asked(answer_twice) as (sai, proxy):
        assert (await proxy.ask(stream=stream, key="one-users-key")).text == "mine"
        answered.set()
        await sent.wait()
        await next_user(proxy, sai, stream=stream)


async def test_u10_what_still_waits_in_the_kernel_never_reaches_the_next_user(stream: bool) -> None:
    """A second answer, sent while the proxy's loop is busy with the next user's question."""
    second = whole(SECRET, PLAIN)

    async def answer_twice(call: Call) -> None:
        await call.send(whole("mine", PLAIN) if call.number == 1 else HELLO)
        if call.number == 1:
            first.append(call)

    first: list[Call] = []
    async with asked(answer_twice) as (sai, proxy):
        await proxy.ask(stream=stream, key="one-users-key")
        asking = asyncio.ensure_future(proxy.ask(stream=stream, key="another-users-key"))
        await until(lambda: proxy.proxy.lifecycle.answering or len(sai.calls) > 1)
        first[0].send_soon(second)
        outcome = await asking
        assert SECRET not in outcome.answer.text


IN_PACKETS = {
    "head, then the rest": [head("Content-Length: 4"), b"mine" + b"xx"],
    "head, then chunks": [head("Transfer-Encoding: chunked"), chunk(b"mine") + b"0\r\n\r\n" + b"xx"],
    "half an answer": [head("Content-Length: 4") + b"mi", b"ne" + b"xx"],
    "half a head": [b"HTTP/1.1 200 OK\r\nContent-Le", b"ngth: 4\r\n\r\nmine" + b"xx"],
    "a head without its end": [b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r", b"\nmine" + b"xx"],
    "an interim response": [head(status="100 Continue"), whole("mine") + b"xx"],
    "an interim response with it": [head(status="100 Continue") + whole("mine") + b"xx"],
}


@pytest.mark.parametrize("packets", IN_PACKETS.values(), ids=IN_PACKETS)
async def test_u10_bytes_too_many_leave_the_answer_intact_however_it_is_packed(
    stream: bool, packets: list[bytes]
) -> None:
    async def answer(call: Call) -> None:
        for packet in packets:
            await call.send(packet)
            await asyncio.sleep(0.05)

    async with asked(one_after_another(answer, HELLO)) as (sai, proxy):
        assert (await proxy.ask(stream=stream, key="one-users-key")).text == "mine"
        await next_user(proxy, sai, stream=stream)


@pytest.mark.parametrize("framed", [whole("mine", PLAIN), chunked(b"mine")], ids=["with length", "chunked"])
async def test_u10_half_a_second_answer_in_the_firsts_packet_ends_the_connection(framed: bytes) -> None:
    async with asked(one_after_another(framed + BEGUN, HELLO)) as (sai, proxy):
        assert (await proxy.ask(key="one-users-key")).text == "mine"
        await next_user(proxy, sai, stream=False)


@pytest.mark.parametrize(
    "rest", [REST, b"-Length: 1\r\n\r\n" + whole(SECRET, PLAIN)], ids=["its rest", "its rest and one more"]
)
async def test_u10_half_a_second_answer_on_an_idle_connection_never_touches_the_next_user(rest: bytes) -> None:
    """Its other half comes after the next user's question."""

    async def answer_twice(call: Call) -> None:
        if call.connection > 1:
            await call.send(HELLO)
        elif call.number > 1:
            await call.send(rest)
        else:
            await call.send(whole("mine", PLAIN))
            await answered.wait()
            await call.send(BEGUN)
            sent.set()

    answered, sent = asyncio.Event(), asyncio.Event()
    async with asked(answer_twice) as (sai, proxy):
        assert (await proxy.ask(key="one-users-key")).text == "mine"
        answered.set()
        await sent.wait()
        await next_user(proxy, sai, stream=False)


async def test_u10_an_unsolicited_408_on_an_idle_connection_is_not_the_next_users_504(stream: bool) -> None:
    """As balancers send before they close a connection that was idle for long."""

    async def give_up(call: Call) -> None:
        await call.send(HELLO)
        if call.number == 1:
            await call.send(whole("", "Connection: close", status="408 Request Timeout"))
            call.end()

    async with asked(give_up) as (sai, proxy):
        for _ in range(2):
            assert (await proxy.ask(stream=stream)).text == "hello"
        assert len(sai.calls) == 2


@pytest.mark.parametrize("interim", ["100 Continue", "103 Early Hints"])
async def test_u10_an_interim_response_goes_before_the_answer(stream: bool, interim: str) -> None:
    async with asked(head(status=interim) + HELLO) as (sai, proxy):
        for _ in range(2):
            assert (await proxy.ask(stream=stream)).text == "hello"
        assert len(sai.calls) == 2


async def test_u11_bytes_that_are_no_text_become_one_character_each_and_the_rest_goes_on(stream: bool) -> None:
    body = [b"a\xff", b"b\xc3", b"(\xe2\x82", b"\xac \xed\xa0\x80 \xf0\x9f", b" end\xc3"]
    async with asked(chunked(*body)) as (_, proxy):
        outcome = await proxy.ask(stream=stream)
        assert outcome.text == b"".join(body).decode(errors="replace")
        assert outcome.text == "a\ufffdb\ufffd(€ \ufffd\ufffd\ufffd \ufffd end\ufffd"
        assert outcome.finish_reason == "stop"


RICH = 'áé "x" \\ \r\n\r\n 漢字 😀👩‍👩‍👧 \u2028 <tool_call>{"name": "f"}</tool_call> data: [DONE]\n\n'


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (RICH.encode(), "text/plain; charset=utf-8"),
        (json.dumps(RICH).encode(), "application/json"),
        (json.dumps(RICH, ensure_ascii=False).encode(), "application/json"),
        (gzip.compress(RICH.encode()), "text/plain"),
    ],
    ids=["text", "escaped", "quoted", "compressed"],
)
async def test_u12_an_answer_is_the_same_if_every_byte_of_it_travels_alone(
    stream: bool, body: bytes, kind: str
) -> None:
    """The head's bytes, too."""
    encoding = ["Content-Encoding: gzip"] if body.startswith(b"\x1f\x8b") else []
    response = chunked(*(bytes([byte]) for byte in body), headers=(f"Content-Type: {kind}", *encoding))

    async def drip(call: Call) -> None:
        for at in range(len(response)):
            await call.send(response[at : at + 1])
            await asyncio.sleep(0)

    async with asked(drip) as (sai, proxy):
        for _ in range(2):
            outcome = await proxy.ask(stream=stream)
            assert (outcome.text, outcome.finish_reason) == (RICH, "stop")
        assert sai.connections == 1


Pack = Callable[[bytes], bytes]


def raw_deflate(data: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflater.compress(data) + deflater.flush()


def in_members(data: bytes) -> bytes:
    return b"".join(gzip.compress(data[at : at + 700]) for at in range(0, len(data), 700))


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("gzip", gzip.compress),
        ("gzip", in_members),
        ("x-gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("deflate", raw_deflate),
    ],
    ids=["gzip", "several members", "x-gzip", "zlib", "raw deflate"],
)
async def test_u12_every_coding_that_was_asked_for_is_undone(stream: bool, encoding: str, pack: Pack) -> None:
    text = "Una respuesta con ñ y 漢字. " * 200
    packed = pack(text.encode())
    pieces = [packed[at : at + 11] for at in range(0, len(packed), 11)]
    async with asked(chunked(*pieces, headers=(PLAIN, f"Content-Encoding: {encoding}"))) as (sai, proxy):
        for _ in range(2):
            assert (await proxy.ask(stream=stream)).text == text
        assert sai.connections == 1


@pytest.mark.parametrize("pack", [gzip.compress, in_members, zlib.compress, raw_deflate])
async def test_u12_a_compressed_answer_that_is_cut_is_a_cut_answer(stream: bool, pack: Pack) -> None:
    packed = pack(json.dumps(list(range(5000))).encode())
    async with asked(whole(packed[:-5], PLAIN, "Content-Encoding: gzip")) as (sai, proxy):
        outcome = await proxy.ask(stream=stream)
        assert outcome.code == "upstream_protocol"
        assert len(sai.calls) == 1


def bomb(mebibytes: int) -> Iterator[bytes]:
    """So much of one letter, as the wire has it: a thousandth of that."""
    deflater = zlib.compressobj(9, wbits=zlib.MAX_WBITS | 16)
    yield deflater.compress(b"") + deflater.flush(zlib.Z_FULL_FLUSH)
    block = deflater.compress(b"x" * MIB) + deflater.flush(zlib.Z_FULL_FLUSH)
    for _ in range(mebibytes):  # after a full flush the same bytes mean the same again
        yield block


def watermark_mib(process: Process) -> float:
    """The most memory that it has ever had."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc on this system")
async def test_u13_a_bomb_of_a_gibibyte_is_502_and_costs_next_to_no_memory(stream: bool) -> None:
    async def explode(call: Call) -> None:
        await call.send(head(PLAIN, "Content-Encoding: gzip", "Transfer-Encoding: chunked"))
        for piece in bomb(1024):
            await call.send(chunk(piece))
        await call.send(b"0\r\n\r\n")

    env = environment("", STREAM_CHUNK_CHARS="100000", MAX_ANSWER_BYTES=str(16 * MIB))
    async with (
        played_sai(one_after_another(HELLO, explode)) as sai,
        running_process({**env, "SAI_URL": sai.url}) as process,
    ):
        await process.proxy.ask(stream=stream)
        before = watermark_mib(process)
        answer = await process.proxy.ask(stream=stream)
        assert answer.status == (200 if stream else 502)
        last = answer.text.rstrip().rpartition("\n")[2].removeprefix("data: ")
        assert json.loads(last)["error"]["code"] in ("upstream_protocol", "upstream_answer_too_long")
        grown = watermark_mib(process) - before
        assert grown < 32
        await until(lambda: not sai.open)
        assert len(sai.calls) == 2
        logging.getLogger(__name__).info("grown by %.1f MiB", grown)


async def test_u13_a_bomb_below_the_limit_of_answers_is_one_by_its_ratio() -> None:
    body = b"".join(bomb(60))
    async with asked(whole(body, PLAIN, "Content-Encoding: gzip"), MAX_RETRIES="3") as (sai, proxy):
        outcome = await proxy.ask()
        assert (outcome.status, outcome.code) == (502, "upstream_protocol")
        (line,) = proxy.log.of("request failed")
        assert "200 times its size" in line["detail"]
        assert len(sai.calls) == 1


def test_u13_a_bomb_is_recognised_as_soon_however_much_of_it_has_arrived() -> None:
    """Eight MiB have to be inflated before anything counts as a bomb; all else shows at once."""
    decoder, inflated = body_decoder("gzip"), 0

    def inflate_all() -> None:
        nonlocal inflated
        inflated += len(decoder.feed(b"".join(bomb(256))))
        while decoder.pending:
            inflated += len(decoder.feed(b""))

    with pytest.raises(UpstreamProtocolError):
        inflate_all()
    assert inflated < 9 * MIB


def endless_text() -> Iterator[bytes]:
    number = 0
    while True:
        number += 1
        yield f"{number} and more, ".encode()


def endless_gzip() -> Iterator[bytes]:
    deflater = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
    for text in endless_text():
        yield deflater.compress(text) + deflater.flush(zlib.Z_SYNC_FLUSH)


@pytest.mark.parametrize(("pieces", "encoding"), [(endless_text, "identity"), (endless_gzip, "gzip")])
async def test_u13_an_answer_without_an_end_is_502_at_the_limit(
    stream: bool, pieces: Callable[[], Iterator[bytes]], encoding: str
) -> None:
    async def go_on(call: Call) -> None:
        await call.send(chunked(ended=False, headers=(PLAIN, f"Content-Encoding: {encoding}")))
        for piece in pieces():
            await call.send(chunk(piece))
            await asyncio.sleep(0)

    async with asked(go_on, MAX_ANSWER_BYTES="30000", MAX_RETRIES="3") as (sai, proxy):
        outcome = await proxy.ask(stream=stream)
        assert outcome.code == "upstream_answer_too_long"
        assert outcome.status == (200 if stream else 502)
        assert stream or outcome.headers["x-should-retry"] == "false"
        assert len(outcome.text if stream else "") <= 30_000
        assert len(sai.calls) == 1
        await until(lambda: not sai.open)


@pytest.mark.parametrize(
    "headers",
    [["X-Long: " + SECRET + "x" * 64 * 1024], [f"X-{number}: {SECRET}" for number in range(250)]],
    ids=["a field of 64 KiB", "250 fields"],
)
async def test_u14_a_head_that_is_too_large_is_502_and_not_echoed(stream: bool, headers: list[str]) -> None:
    async with asked(one_after_another(whole("hi", *headers), HELLO), MAX_RETRIES="3") as (sai, proxy):
        outcome = await proxy.ask(stream=stream)
        assert (outcome.status, outcome.code) == (502, "upstream_protocol")
        assert SECRET not in str(outcome.headers) + outcome.answer.text
        assert SECRET not in str([fields_of(record) for record in proxy.log.records])
        assert (await proxy.ask(stream=stream)).text == "hello"
        assert sai.connections_of_calls == [1, 2]


async def test_u14_a_head_without_an_end_is_502(stream: bool) -> None:
    async def go_on(call: Call) -> None:
        await call.send(b"HTTP/1.1 200 OK\r\n")
        while True:
            await call.send(b"X-More: and more\r\n" * 10)

    async with asked(go_on) as (sai, proxy):
        outcome = await proxy.ask(stream=stream)
        assert (outcome.status, outcome.code) == (502, "upstream_protocol")
        await until(lambda: not sai.open)


@pytest.mark.parametrize(
    "headers",
    [["Set-Cookie: .AspNetCore.Cookies=" + "c" * 9 * 1024], [f"X-{number}: {number}" for number in range(130)]],
    ids=["a cookie of 9 KiB", "130 fields"],
)
async def test_u14_a_large_head_is_no_fault(stream: bool, headers: list[str]) -> None:
    async with asked(whole("hello", *headers)) as (sai, proxy):
        for _ in range(2):
            outcome = await proxy.ask(stream=stream)
            assert outcome.text == "hello"
            assert "Set-Cookie" not in outcome.headers
        assert sai.connections == 1


@pytest.mark.parametrize("name", [b"gpt\x7f", b"gp\tt", b"gpt\xc3\xb1", b"gpt\xff", b"x" * 300, b"", b"   "])
async def test_u14_a_model_name_that_cannot_be_a_header_is_left_out(stream: bool, name: bytes) -> None:
    response = b"HTTP/1.1 200 OK\r\nmodel: " + name + b"\r\nContent-Length: 5\r\n\r\nhello"
    async with asked(response) as (_, proxy):
        outcome = await proxy.ask(stream=stream)
        assert outcome.status == 200 or outcome.code == "upstream_protocol"
        assert outcome.error or outcome.text == "hello"
        assert "x-sai-model" not in outcome.headers


@pytest.mark.parametrize("control", [b"\x01", b"\x1b[31m", b"\r", b"\0", b"\nSet-Cookie: session=1\r\nX: "])
async def test_u14_control_characters_of_a_model_name_never_reach_a_client(stream: bool, control: bytes) -> None:
    response = b"HTTP/1.1 200 OK\r\nmodel: gpt" + control + b"4\r\nContent-Length: 5\r\n\r\nhello"
    async with asked(response) as (sai, proxy):
        outcome = await proxy.ask(stream=stream)
        assert outcome.code == "upstream_protocol" or outcome.text == "hello"
        assert set("".join(outcome.headers.values())) <= set(map(chr, range(0x20, 0x7F)))
        assert "Set-Cookie" not in outcome.headers
        assert len(sai.calls) == 1


NOTHING = {
    "with length": whole("", PLAIN),
    "chunked": chunked(),
    "without a type": whole(""),
    "204": head(status="204 No Content"),
    "HTML": whole("", "Content-Type: text/html"),
    "JSON": whole('""', "Content-Type: application/json"),
    "compressed": whole(gzip.compress(b""), "Content-Encoding: gzip"),
    "compressed to no byte": whole("", "Content-Encoding: gzip"),
}


@pytest.mark.parametrize("response", NOTHING.values(), ids=NOTHING)
async def test_u17_an_empty_body_is_an_empty_answer_and_a_warning(stream: bool, response: bytes) -> None:
    async with asked(response, MAX_RETRIES="3") as (sai, proxy):
        outcome = await proxy.ask(stream=stream)
        assert (outcome.status, outcome.text, outcome.finish_reason) == (200, "", "stop")
        assert len(proxy.log.of("SAI answered with no text")) == 1
        assert len(sai.calls) == 1
