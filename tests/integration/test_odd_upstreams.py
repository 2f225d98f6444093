"""Answers of SAI's that no HTTP library would send, byte by byte."""

import asyncio
import gc
import gzip
import logging
import zlib

import pytest

from sai_proxy.http.admission import Holding
from sai_proxy.keys import ADMISSION
from sai_proxy.simulator import Simulator
from tests.conftest import StartProxy
from tests.integration.raw_upstream import head, raw_upstream
from tests.support import SYSTEM_KEY, Proxy, chat, content_of, fields_of, until

PAGE = "<!DOCTYPE html><html><head><title>Sign in to your account</title></head></html>"


def whole(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    return head(*headers, f"Content-Length: {len(body)}", status=status) + body


@pytest.mark.parametrize(
    "before",
    [
        "",
        "\r\n\r\n<!-- Copyright (C) Microsoft Corporation. All rights reserved. -->\r\n",
        "\ufeff",
        '<?xml version="1.0"?>\n',
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_login_page_is_401_whatever_stands_before_it(
    start_proxy: StartProxy, before: str, stream: bool
) -> None:
    async with raw_upstream(whole((before + PAGE).encode(), "Content-Type: text/html; charset=utf-8")) as sai:
        proxy = await start_proxy(SAI_URL=sai.url)
        answer = await proxy.ask(stream=stream)
    assert (answer.status, answer.error["code"]) == (401, "upstream_auth")


PACKED = gzip.compress(b"The whole of a long answer. " * 200, mtime=0)
CORRUPT = PACKED[:40] + bytes(byte ^ 0x55 for byte in PACKED[40:])


@pytest.mark.parametrize(
    "body", [PACKED[: len(PACKED) // 2], PACKED[:-8], CORRUPT, PACKED + b"more", b"not compressed at all"]
)
async def test_a_compressed_answer_that_is_cut_or_corrupt_never_looks_finished(
    start_proxy: StartProxy, body: bytes
) -> None:
    async with raw_upstream(whole(body, "Content-Type: text/plain", "Content-Encoding: gzip")) as sai:
        proxy = await start_proxy(SAI_URL=sai.url)
        answer = await proxy.ask()
        assert (answer.status, answer.error["code"]) == (502, "upstream_protocol")
        streamed = await proxy.ask(stream=True)  # which has a status of its own, if nothing has gone out before
        told = streamed.events[-1]["error"] if streamed.status == 200 else streamed.error
        assert told["code"] == "upstream_protocol"


@pytest.mark.parametrize("encoding", ["br", "gzip, gzip"])
async def test_a_coding_that_was_not_asked_for_is_502(start_proxy: StartProxy, encoding: str) -> None:
    async with raw_upstream(whole(b"abc", f"Content-Encoding: {encoding}")) as sai:
        proxy = await start_proxy(SAI_URL=sai.url)
        assert (await proxy.ask()).error["code"] == "upstream_protocol"


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_a_small_body_that_inflates_to_much_arrives_whole(
    start_proxy: StartProxy, encoding: str, pack: object
) -> None:
    text = b"a" * 3_000_000
    async with raw_upstream(whole(pack(text), "Content-Type: text/plain", f"Content-Encoding: {encoding}")) as sai:  # type: ignore[operator]
        proxy = await start_proxy(SAI_URL=sai.url, STREAM_CHUNK_CHARS="100000")
        assert len((await proxy.ask()).content) == 3_000_000
        assert len(content_of((await proxy.ask(stream=True)).events)) == 3_000_000


@pytest.mark.parametrize("stream", [False, True])
async def test_a_malformed_chunk_in_mid_answer_is_noticed_at_once(start_proxy: StartProxy, stream: bool) -> None:
    start = head("Content-Type: text/plain", "Transfer-Encoding: chunked") + b"3\r\nabc\r\n"
    async with raw_upstream(start, 0.05, b"ZZ\r\n") as sai:
        proxy = await start_proxy(SAI_URL=sai.url)
        answer = await asyncio.wait_for(proxy.ask(stream=stream), 5)
        failure = answer.events[-1]["error"] if stream else answer.error
        assert failure["code"] == "upstream_protocol"
        await until(lambda: not sai.open)


async def test_a_session_that_sai_starts_never_travels_with_another_users_call(start_proxy: StartProxy) -> None:
    async with raw_upstream(whole(b"hi", "Set-Cookie: .AspNetCore.Cookies=canary; Path=/")) as sai:
        proxy = await start_proxy(SAI_URL=sai.url.replace("127.0.0.1", "localhost"))
        for key in ("one", "another"):
            assert (await proxy.ask(headers={"x-api-key": key})).content == "hi"
        assert len(sai.heads) == 2
        assert b"canary" not in b"".join(sai.heads)


async def test_a_connection_that_breaks_leaves_nothing_behind_in_the_log(
    start_proxy: StartProxy, sai: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    proxy = await start_proxy()
    for question in ("[[pieces=4]][[delay=0.01]][[reset=middle]]", "[[reset=before]]", "[[cut=chunked]][[pieces=4]]"):
        for stream in (False, True):
            await proxy.ask(question, stream=stream)
    gc.collect()
    assert [record for record in caplog.records if record.name == "asyncio"] == []


@pytest.mark.parametrize("stream", [False, True])
async def test_a_failure_whose_body_stalls_keeps_its_status(
    start_proxy: StartProxy, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sai_proxy.sai_api.client._ERROR_BODY_TIMEOUT_S", 0.1)
    async with raw_upstream(head("Content-Length: 100", status="401 Unauthorized") + b"half") as sai:
        proxy = await start_proxy(SAI_URL=sai.url, HEARTBEAT_SECONDS="1")
        answer = await asyncio.wait_for(proxy.ask(stream=stream), 5)
        assert answer.status == 401
        await until(lambda: not sai.open)


@pytest.mark.parametrize(
    ("response", "status"),
    [
        (head("Retry-After: Fri, 31 Dec 99999999999999 00:00:00 GMT", "Content-Length: 9", status="429 No"), 429),
        (head("Retry-After: Fri, 31 Dec 99999999999999 00:00:00 GMT", "Content-Length: 9", status="503 No"), 503),
        (whole(b"abc", "Content-Type: text/plain; charset=undefined"), 200),
        (whole(b"abc", "Content-Type: text/plain; charset=idna"), 200),
        (whole(b"abc", "Content-Type: text/plain; charset=unicode_escape"), 200),
        (whole(b"abc", "Content-Type: ;;;charset="), 200),
    ],
)
async def test_odd_headers_cost_neither_the_answer_nor_a_connection(
    start_proxy: StartProxy, response: bytes, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sai_proxy.sai_api.client._ERROR_BODY_TIMEOUT_S", 0.1)
    monkeypatch.setattr("sai_proxy.sai_api.failures.DEFAULT_RETRY_AFTER_S", 1)
    async with raw_upstream(response) as sai:
        proxy = await start_proxy(SAI_URL=sai.url, SAI_COOKIE="", MAX_RETRIES="1")
        assert (await proxy.ask()).status == status
        await until(lambda: status == 200 or not sai.open)


@pytest.mark.parametrize(
    "body", [f"oops {SYSTEM_KEY}", f'{{"key":"{SYSTEM_KEY}"}}', f"<html>no {SYSTEM_KEY}</html>", "the bare-cookie!"]
)
async def test_a_credential_that_sai_echoes_is_masked(
    start_proxy: StartProxy, caplog: pytest.LogCaptureFixture, body: str
) -> None:
    kind = "text/html" if body.startswith("<") else "text/plain"
    statuses = ("200 OK", "500 No") if kind == "text/html" else ("500 No",)
    caplog.set_level(logging.DEBUG)
    for status in statuses:
        async with raw_upstream(whole(body.encode(), f"Content-Type: {kind}", status=status)) as sai:
            cookie = {"SAI_KEY": "", "SAI_COOKIE": "bare-cookie"} if "cookie" in body else {}
            proxy = await start_proxy(SAI_URL=sai.url, **cookie)
            assert (await proxy.ask(body)).status == 502
    ours = [record for record in caplog.records if record.name.startswith(("sai_proxy", "middlewares"))]
    written = str([*map(fields_of, ours)])
    assert "***" in written
    assert SYSTEM_KEY not in written.replace(chat(body)["messages"][0]["content"], "")
    assert "bare-cookie" not in written


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_is_looked_at_first_is_accounted_for_once(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    """What stands in a web page's type is looked at before it is relayed; as it is held then, it is never given back
    twice."""
    held: list[int] = []
    grow = Holding.grow

    def watched(self: Holding, size: int, *, alone: bool = True) -> None:
        grow(self, size, alone=alone)
        held.append(proxy.app[ADMISSION].held)

    monkeypatch.setattr(Holding, "grow", watched)
    answer = await proxy.ask("[[type=text/html]][[gzip]][[chars=1000000]]", stream=stream)
    assert answer.status == 200
    assert min(held) >= 0
    assert max(held) > 30_000
    await until(lambda: not proxy.app[ADMISSION].held)
