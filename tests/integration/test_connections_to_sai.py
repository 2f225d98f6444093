"""Connections to SAI: used again where nothing speaks against it, the last one first, and closed when they are idle."""

import asyncio

import pytest

from tests.conftest import StartProxy
from tests.integration.raw_upstream import Step, head, raw_upstream
from tests.support import content_of, until

SIZED = head("Content-Type: text/plain", "X-Odd: Content-Length: 7", "content-length:5")
CHUNKED = head("Content-Type: text/plain", "Transfer-Encoding: chunked")


@pytest.mark.parametrize(
    "steps",
    [
        (SIZED + b"hello",),
        (SIZED[:20], 0.01, SIZED[20:] + b"hello"),
        (SIZED, 0.01, b"hello"),
        (SIZED + b"hel", 0.01, b"lo"),
        (CHUNKED + b"5\r\nhello\r\n0\r\n\r\n",),
        (CHUNKED + b"5\r\nhello\r\n", 0.01, b"0\r\n\r\n"),
        (head("Content-Type: text/plain", "Content-Length: 5", status="201 Created") + b"hello",),
        (head("Content-Type: text/plain", "Content-Length: 60000") + b"hello" * 12_000,),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n" + SIZED + b"hello",),
    ],
    ids=["at once", "in the head", "behind the head", "in the body", "chunked", "end apart", "201", "long", "interim"],
)
async def test_a_connection_is_used_again(start_proxy: StartProxy, steps: tuple[Step, ...]) -> None:
    async with raw_upstream(*steps) as sai:
        proxy = await start_proxy(SAI_URL=sai.url)
        for _ in range(3):
            whole, streamed = (await proxy.ask()).content, content_of((await proxy.ask(stream=True)).events)
            assert whole == streamed
            assert whole.replace("hello", "") == ""
            assert whole
        assert (len(sai.heads), sai.accepted) == (6, 1)


@pytest.mark.parametrize(
    "answer",
    [
        SIZED + b"hello" + SIZED + b"other",
        SIZED + b"hello\r\n",
        head("Content-Length: 5", "Connection: close") + b"hello",
        CHUNKED + b"5\r\nhello\r\n0\r\n\r\n" + b"HTTP",
    ],
    ids=["second answer", "blank line", "close", "half a head"],
)
async def test_what_comes_behind_an_answer_is_nobodys(start_proxy: StartProxy, answer: bytes) -> None:
    async with raw_upstream(answer) as sai:
        proxy = await start_proxy(SAI_URL=sai.url)
        for _ in range(3):
            assert (await proxy.ask()).content == "hello"
        assert (len(sai.heads), sai.accepted) == (3, 3)


@pytest.fixture
def brief_keepalive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sai_proxy.sai_api.pool.KEEPALIVE_S", 0.3)


@pytest.mark.usefixtures("brief_keepalive")
async def test_the_last_used_comes_first_and_idle_ones_are_closed(start_proxy: StartProxy) -> None:
    async with raw_upstream(0.05, SIZED + b"hello") as sai:
        proxy = await start_proxy(SAI_URL=sai.url)
        await asyncio.gather(*(proxy.ask() for _ in range(4)))
        assert (len(sai.open), sai.accepted) == (4, 4)
        for _ in range(12):  # of some 50 ms each
            assert (await proxy.ask()).content == "hello"
        assert (len(sai.open), sai.accepted) == (1, 4), "the one that is in use stays"
        await until(lambda: not sai.open)
        assert (await proxy.ask()).content == "hello"
        assert sai.accepted == 5


async def test_a_connection_that_sai_has_closed_is_not_used(start_proxy: StartProxy) -> None:
    async with raw_upstream(SIZED + b"hello") as sai:
        proxy = await start_proxy(SAI_URL=sai.url, MAX_RETRIES="0")
        assert (await proxy.ask()).content == "hello"
        for writer in list(sai.open):
            writer.close()
        assert (await proxy.ask()).content == "hello"
        assert sai.accepted == 2


async def test_no_connection_outlives_the_server(start_proxy: StartProxy) -> None:
    async with raw_upstream(SIZED + b"hello") as sai:
        proxy = await start_proxy(SAI_URL=sai.url)
        await asyncio.gather(*(proxy.ask() for _ in range(3)))
        await proxy.app.cleanup()
        await until(lambda: not sai.open)


@pytest.mark.usefixtures("brief_keepalive")
async def test_those_that_are_idle_for_a_shorter_time_are_closed_later(start_proxy: StartProxy) -> None:
    async with raw_upstream(0.05, SIZED + b"hello") as sai:
        proxy = await start_proxy(SAI_URL=sai.url)
        await asyncio.gather(proxy.ask(), proxy.ask())
        for _ in range(3):
            await proxy.ask()
        await until(lambda: len(sai.open) == 1)
        await until(lambda: not sai.open)
        assert sai.accepted == 2
