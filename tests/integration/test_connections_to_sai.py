"""Connections to SAI: used again where nothing speaks against it, and closed when they are idle."""

import asyncio

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.connector import Connection
from yarl import URL

from sai_proxy.sai_api.pool import Connections, SaiConnection
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
async def test_what_is_not_needed_is_closed(start_proxy: StartProxy) -> None:
    async with raw_upstream(0.05, SIZED + b"hello") as sai:
        proxy = await start_proxy(SAI_URL=sai.url)
        await asyncio.gather(*(proxy.ask() for _ in range(4)))
        assert (len(sai.open), sai.accepted) == (4, 4)
        for _ in range(12):  # of some 50 ms each
            assert (await proxy.ask()).content == "hello"
        assert (len(sai.open), sai.accepted) == (2, 4), "one that is in use, and one that rests"
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


@pytest.mark.parametrize("pieces", [1024, 1025, 1026, 2053])
@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_in_tiny_chunks_is_read_to_its_end(start_proxy: StartProxy, pieces: int, stream: bool) -> None:
    """After so many aiohttp's parser is told to pause, and does so in the chunk that comes next."""
    tiny = CHUNKED + b"1\r\na\r\n" * pieces
    async with raw_upstream(tiny, 0.05, b"4\r\nTAIL\r\n0\r\n\r\n") as sai:
        proxy = await start_proxy(SAI_URL=sai.url)
        answer = await asyncio.wait_for(proxy.ask(stream=stream), 5)
        assert (content_of(answer.events) if stream else answer.content) == "a" * pieces + "TAIL"


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_is_too_long_is_refused_if_it_came_at_once(start_proxy: StartProxy, stream: bool) -> None:
    answer = head("Content-Type: text/plain", "Content-Length: 5000") + b"a" * 5_000
    async with raw_upstream(answer) as sai:
        proxy = await start_proxy(SAI_URL=sai.url, MAX_ANSWER_BYTES="1000")
        refused = await proxy.ask(stream=stream)
    error = refused.events[-1]["error"] if stream and refused.status == 200 else refused.error
    assert error["code"] == "upstream_answer_too_long"


class Idle(SaiConnection):
    """A connection that is as good as new. number: its name."""

    number = 0

    def is_connected(self) -> bool:
        return True

    def is_readable(self) -> bool:
        return False


async def test_a_connection_rests_before_it_is_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what SAI sends late and unasked is seen, which else would be the next user's answer."""
    monkeypatch.setattr("sai_proxy.sai_api.pool.REST_S", 0.05)
    loop = asyncio.get_running_loop()
    connector = aiohttp.TCPConnector()
    connections = Connections(connector, URL("http://127.0.0.1:9"))

    def keep(number: int) -> None:
        protocol = Idle(loop=loop)
        protocol.number = number
        connections.keep(Connection(connector, ConnectionKey("x", 9, False, True, None, None, None), protocol, loop))

    def used() -> int:
        connection = connections.reuse()
        assert connection is not None
        protocol = connection.protocol
        assert isinstance(protocol, Idle)
        connection.close()
        return protocol.number

    for number in range(3):
        keep(number)
    assert used() == 0, "the one that has been idle for the longest time, if none has rested"
    await asyncio.sleep(0.06)
    keep(0)
    assert used() == 2, "the last used of those that have rested"
    assert [used(), used()] == [1, 0]
    await connections.close()
