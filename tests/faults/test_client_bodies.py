"""Request bodies that do not arrive, are too long, or are no question."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from sai_proxy import server
from sai_proxy.simulator import Simulator, simulator
from tests.conftest import StartProxy
from tests.faults.raw_client import (
    admission_of,
    all_given_back,
    ask,
    check_no_alarm,
    check_refusal,
    connected,
    exchange,
    head,
    line_of,
    read_reply,
    request,
)
from tests.support import Process, Proxy, chat, environment, running_process, until

MIB = 2**20

# Bodies that do not arrive


@pytest.mark.parametrize(
    ("framing", "piece"),
    [("Content-Length: 100000", b"x" * 10), ("Transfer-Encoding: chunked", b"a\r\n" + b"x" * 10 + b"\r\n")],
    ids=["declared", "chunked"],
)
@pytest.mark.parametrize("pace", ["stopped", "slow"])
async def test_a_body_that_is_not_there_at_its_deadline_is_408_and_gives_all_back(
    sai: Simulator,
    start_proxy: StartProxy,
    caplog: pytest.LogCaptureFixture,
    framing: str,
    piece: bytes,
    pace: str,
) -> None:
    caplog.set_level("INFO")
    proxy = await start_proxy(BODY_TIMEOUT="0.4")
    admission = admission_of(proxy)
    async with connected(proxy) as client:
        await client.send(head(framing, "Connection: close") + piece)
        await until(lambda: admission.held == 10)
        assert admission.requests == 1
        answer = asyncio.ensure_future(client.receive_until(b"}}"))
        while pace == "slow" and not answer.done():
            await client.send(piece)
            await asyncio.sleep(0.02)  # the pace at which this client sends
        check_refusal(read_reply(await answer), 408, "request_timeout")
        await all_given_back(proxy)
    line = await line_of(caplog)
    assert (line["status"], line["error"]) == (408, "request_timeout")
    assert 0.4 <= line["upload_s"] <= line["duration_s"]
    assert sai.calls == []
    check_no_alarm(caplog)


async def test_others_are_served_while_bodies_stand_still(start_proxy: StartProxy) -> None:
    proxy = await start_proxy(BODY_TIMEOUT="1", MAX_CONCURRENT_REQUESTS="101")
    admission = admission_of(proxy)

    async def stand_still() -> None:
        async with connected(proxy) as client:
            await client.send(head("Content-Length: 100", "Connection: close") + b"{")
            check_refusal(read_reply(await client.receive_until(b"}}")), 408, "request_timeout")

    standing = asyncio.gather(*(stand_still() for _ in range(100)))
    await until(lambda: admission.requests == 100)
    assert (await proxy.ask()).status == 200
    await standing
    await all_given_back(proxy)
    assert (await proxy.ask()).status == 200


# Bodies that are too long


def peak_mib(process: Process) -> float:
    """The most that it has held since `forget_peak`. Source: proc_pid_status(5)."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def forget_peak(process: Process) -> None:
    Path(f"/proc/{process.pid}/clear_refs").write_text("5")


async def test_a_body_that_declares_100_mb_is_refused_before_any_of_it_is_sent(sai: Simulator, proxy: Proxy) -> None:
    async with connected(proxy) as client:
        await client.send(head("Content-Length: 100000000", "Connection: close"))
        check_refusal(read_reply(await client.receive_until(b"}}")), 413, "request_too_large")
        await all_given_back(proxy)
    assert sai.calls == []


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="no /proc on this system")
@pytest.mark.parametrize("how", ["declared", "chunked"])
async def test_a_body_of_100_mb_is_refused_and_takes_no_more_memory_than_one_that_is_allowed(how: str) -> None:
    """Its client sends all of it all the same, and reads the refusal then, as most clients do."""
    block = b"x" * MIB
    async with simulator(recording=False) as sai, running_process(environment(sai.url)) as process:
        proxy = process.proxy
        assert (await proxy.ask()).status == 200
        forget_peak(process)
        before = peak_mib(process)
        async with connected(proxy) as client:
            framing = f"Content-Length: {100 * MIB}" if how == "declared" else "Transfer-Encoding: chunked"
            await client.send(head(framing, "Connection: close"))
            for _ in range(100):
                await client.send(block if how == "declared" else f"{MIB:x}\r\n".encode() + block + b"\r\n")
            await client.send(b"" if how == "declared" else b"0\r\n\r\n")
            check_refusal(await client.reply(), 413, "request_too_large")
        assert peak_mib(process) - before < 40
        assert (await proxy.ask()).status == 200


async def test_a_refused_body_that_never_ends_is_cut_off(
    start_proxy: StartProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read away for a while, so that its client gets to read the refusal, and not for ever."""
    monkeypatch.setattr(server, "LINGERING_TIME_S", 0.3)
    proxy = await start_proxy(MAX_BODY_BYTES="1000")
    async with connected(proxy) as client:
        await client.send(head("Transfer-Encoding: chunked"))
        ended = asyncio.ensure_future(client.ended())
        while not ended.done():
            await asyncio.gather(client.send(b"3e8\r\n" + b"x" * 1000 + b"\r\n"), return_exceptions=True)
            await asyncio.sleep(0.001)  # it shares its thread with the proxy
    await all_given_back(proxy)
    await until(lambda: admission_of(proxy).connections == 0)


# Bodies that are bombs

MESSAGES = b'"messages":[{"role":"user","content":"a"}]'


def with_field(name: str, value: bytes) -> bytes:
    return b'{"model":"sai-model",' + MESSAGES + f',"{name}":'.encode() + value + b"}"


DEEP = b"[" * 100_000 + b"]" * 100_000
DEEP_OBJECTS = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
LONG_NUMBER = b"1" * 1_000_000
BOMBS: dict[str, tuple[bytes, str | None]] = {
    "deep messages": (b'{"model":"sai-model","messages":' + DEEP + b"}", "messages[0]"),
    "a deep ignored field": (with_field("metadata", DEEP_OBJECTS), None),
    "a deep unknown field": (with_field("unheard_of", DEEP), None),
    "deep lists in place of the body": (DEEP, None),
    "a deep part": (
        b'{"model":"sai-model","messages":[{"role":"user","content":[{"type":"image_url","image_url":'
        + DEEP
        + b"}]}]}",
        None,
    ),
    "deep beside a key": (with_field("litellm_params", b'{"metadata":{"user_api_key":"k","z":' + DEEP + b"}}"), None),
    "deep and cut off": (b'{"model":"sai-model","messages":' + b"[" * 200_000, "messages[0]"),
    "a long n": (with_field("n", LONG_NUMBER), "n"),
    "a long seed": (with_field("seed", LONG_NUMBER), "seed"),
    "a long temperature": (with_field("temperature", LONG_NUMBER), "temperature"),
    "a long exponent": (with_field("top_p", b"1e" + LONG_NUMBER), "top_p"),
    "a million fields": (b"{" + b",".join(b'"f%d":0' % number for number in range(500_000)) + b"}", None),
}


@pytest.mark.parametrize(("body", "param"), BOMBS.values(), ids=BOMBS)
async def test_a_bomb_of_json_is_400_and_costs_little(
    sai: Simulator, proxy: Proxy, caplog: pytest.LogCaptureFixture, body: bytes, param: str | None
) -> None:
    before = time.process_time()
    reply = await exchange(proxy, request(body, "Connection: close"))
    assert time.process_time() - before < 1, "seconds of this whole process' time"
    assert (reply.status, reply.error["param"]) == (400, param)
    check_refusal(reply, 400, reply.error["code"])
    assert len(reply.body) < 1_000
    assert sai.calls == []
    assert (await proxy.ask()).status == 200
    await all_given_back(proxy)
    check_no_alarm(caplog)


# Bodies that are no question

PATH = "/v1/chat/completions"
NO_QUESTIONS: dict[str, tuple[bytes, str | None, str | None]] = {
    "nothing": (b"", None, None),
    "blanks": (b"  \n", None, None),
    "no JSON": (b"model=sai-model", None, None),
    "cut off": (json.dumps(chat()).encode()[:-3], None, None),
    "two bodies": (json.dumps(chat()).encode() * 2, None, None),
    "a trailing comma": (b'{"model":"sai-model",' + MESSAGES + b",}", None, None),
    "a comment": (b'{"model":"sai-model",/* */' + MESSAGES + b"}", None, None),
    "single quotes": (b"{'model':'sai-model'}", None, None),
    "NaN": (with_field("temperature", b"NaN"), None, None),
    "NaN in a field that nobody knows": (with_field("unheard_of", b"NaN"), None, None),
    "Infinity": (with_field("top_p", b"-Infinity"), None, None),
    "a number past all": (with_field("temperature", b"1e999"), "temperature", "invalid_value"),
    "NUL as it is": (b'{"model":"sai-model","messages":[{"role":"user","content":"a\0b"}]}', None, None),
    "half a surrogate pair": (b'{"model":"sai-model","messages":[{"role":"user","content":"\\ud800x"}]}', None, None),
    "the other half": (b'{"model":"sai-model","messages":[{"role":"user","content":"\\udc00x"}]}', None, None),
    "half a surrogate pair as a model": (b'{"model":"\\udc00",' + MESSAGES + b"}", None, None),
    "half a surrogate pair in a key": (
        with_field("litellm_params", b'{"metadata":{"user_api_key":"secret\\udcff"}}'),
        None,
        None,
    ),
    "half a surrogate pair as bytes": (
        b'{"model":"sai-model","messages":[{"role":"user","content":"\xed\xa0\x80"}]}',
        None,
        None,
    ),
    "Latin-1": ('{"model":"sai-model","messages":[{"role":"user","content":"ñ"}]}'.encode("latin-1"), None, None),
    "UTF-16": (json.dumps(chat()).encode("utf-16"), None, None),
    "null": (b"null", None, "invalid_type"),
    "a list": (b"[]", None, "invalid_type"),
    "a string": (b'"sai-model"', None, "invalid_type"),
    "no model": (b"{" + MESSAGES + b"}", "model", "missing_required_parameter"),
    "no messages": (b'{"model":"sai-model"}', "messages", "missing_required_parameter"),
    "no content": (
        b'{"model":"sai-model","messages":[{"role":"user"}]}',
        "messages[0].content",
        "missing_required_parameter",
    ),
    "a model that is a number": (b'{"model":1,' + MESSAGES + b"}", "model", "invalid_type"),
    "messages that are a string": (b'{"model":"sai-model","messages":"hi"}', "messages", "invalid_type"),
    "content that is a number": (
        b'{"model":"sai-model","messages":[{"role":"user","content":1}]}',
        "messages[0].content",
        "invalid_type",
    ),
    "a role of nobody": (
        b'{"model":"sai-model","messages":[{"role":"pope","content":"a"}]}',
        "messages[0].role",
        "invalid_value",
    ),
    "stream as a string": (with_field("stream", b'"true"'), "stream", "invalid_type"),
    "n as a fraction": (with_field("n", b"1.5"), "n", "invalid_type"),
    "tools as an object": (with_field("tools", b'{"a":1}'), "tools", "invalid_type"),
}


@pytest.mark.parametrize(("body", "param", "code"), NO_QUESTIONS.values(), ids=NO_QUESTIONS)
async def test_a_body_that_is_no_question_is_400_and_names_the_place(
    sai: Simulator, proxy: Proxy, caplog: pytest.LogCaptureFixture, body: bytes, param: str | None, code: str | None
) -> None:
    reply = await exchange(proxy, request(body, "Connection: close"))
    check_refusal(reply, 400, code)
    assert reply.error["param"] == param
    assert b"secret" not in reply.body
    assert sai.calls == []
    await all_given_back(proxy)
    check_no_alarm(caplog)


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"unknown-model","model":"sai-model",' + MESSAGES + b"}",
        b'{"model":"sai-model",' + MESSAGES + b',"messages":[{"role":"user","content":"b"}]}',
    ],
    ids=["model", "messages"],
)
async def test_a_body_that_says_model_or_messages_twice_is_refused(sai: Simulator, proxy: Proxy, body: bytes) -> None:
    check_refusal(await exchange(proxy, request(body, "Connection: close")), 400, "invalid_value")
    assert sai.calls == []


@pytest.mark.parametrize("text", ["a\0b", "\0", "x" * 100 + "\0" * 100 + "y", "\x01\x1f\x7f", "\u2028\ufeff\U0001f600"])
async def test_no_character_of_a_question_is_lost(sai: Simulator, proxy: Proxy, text: str) -> None:
    assert (await exchange(proxy, ask(f">{text}<"))).status == 200
    assert sai.calls[0].body["inputs"]["user"] == f">{text}<"


async def test_refusals_are_all_there_is_of_many_bad_bodies_at_once(
    sai: Simulator, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    """All of them at once, and a good request among them."""

    async def send(body: Any) -> int:
        return (await exchange(proxy, request(body, "Connection: close"))).status

    bad = [body for body, *_ in (*BOMBS.values(), *NO_QUESTIONS.values())]
    statuses = await asyncio.gather(send(chat()), *map(send, bad))
    assert statuses == [200, *[400] * len(bad)]
    assert len(sai.calls) == 1
    await all_given_back(proxy)
    check_no_alarm(caplog)
