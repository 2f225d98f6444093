"""Clients that stop reading, and clients that read slowly."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from sai_proxy.simulator import Simulator, simulator
from tests.conftest import StartProxy
from tests.faults.raw_client import (
    Client,
    admission_of,
    all_given_back,
    ask,
    check_no_alarm,
    connect,
    connected,
    line_of,
    lines_of,
    read_reply,
)
from tests.support import Proxy, environment, running_process, until

MIB = 2**20
WHOLE = f"[[chars={8 * MIB}]]"
STREAMED = f"[[chars={16 * MIB}]][[split=65536]]"
SMALL_WINDOW = 16 * 1024

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "whole": (WHOLE, {}),
    "streamed": (STREAMED, {"stream": True}),
    "two choices": (f"[[chars={4 * MIB}]]", {"n": 2}),
    "two choices, streamed": (STREAMED, {"n": 2, "stream": True}),
}


@asynccontextmanager
async def stalled(proxy: Proxy, text: str, **fields: Any) -> AsyncIterator[Client]:
    """A client that has asked, and reads nothing."""
    async with connected(proxy, receive_buffer=SMALL_WINDOW) as client:
        await client.send(ask(text, **fields))
        yield client


@pytest.mark.parametrize(("question", "fields"), KINDS.values(), ids=KINDS)
async def test_a_client_that_stops_reading_is_cut_and_all_that_it_held_is_free(
    sai: Simulator,
    start_proxy: StartProxy,
    caplog: pytest.LogCaptureFixture,
    question: str,
    fields: dict[str, Any],
) -> None:
    caplog.set_level("INFO")
    proxy = await start_proxy(WRITE_TIMEOUT="0.5")
    async with stalled(proxy, question, **fields) as client:
        line = await line_of(caplog)
        assert (line["status"], line["error"]) == (499, "client_stalled")
        assert line["client_disconnected"]
        assert line["duration_s"] >= 0.5
        for call in sai.calls:
            await asyncio.wait_for(call.ended.wait(), 1)
            assert call.completed == (not fields.get("stream"))
        await all_given_back(proxy)
        await until(lambda: admission_of(proxy).connections == 0)
        await client.ended()
    check_no_alarm(caplog)


async def test_a_whole_answer_counts_as_held_as_long_as_nobody_reads_it(start_proxy: StartProxy) -> None:
    proxy = await start_proxy(MAX_BUFFERED_BYTES=str(24 * MIB))
    admission = admission_of(proxy)
    async with stalled(proxy, WHOLE) as client:
        await client.receive(1)  # it is on its way
        assert 8 * MIB < admission.held < 9 * MIB
        refused = await proxy.ask(WHOLE)
        assert (refused.status, refused.error["code"]) == (503, "server_busy")
        assert (await proxy.ask()).status == 200, "ordinary requests are let in"
        assert len(await client.receive_all()) > 8 * MIB
    await all_given_back(proxy)
    assert (await proxy.ask(f"[[chars={4 * MIB}]]")).status == 200


async def test_others_are_served_while_many_do_not_read(
    sai: Simulator, start_proxy: StartProxy, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    proxy = await start_proxy(WRITE_TIMEOUT="1")
    clients = [await connect(proxy, receive_buffer=SMALL_WINDOW) for _ in range(3)]
    for client in clients:
        await client.send(ask(STREAMED, stream=True))
    await until(lambda: len(sai.calls) == 3)
    for _ in range(3):
        assert (await proxy.ask()).status == 200
        assert (await proxy.ask(stream=True)).events[-1] == "[DONE]"
    await until(lambda: len(lines_of(caplog)) == 9)
    statuses = [(line["status"], line.get("error")) for line in lines_of(caplog)]
    assert sorted(statuses, key=str) == [(200, None)] * 6 + [(499, "client_stalled")] * 3
    await all_given_back(proxy)
    for client in clients:
        client.close()
    check_no_alarm(caplog)


async def test_a_client_that_stops_reading_and_then_leaves_is_one_that_left(
    sai: Simulator, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with stalled(proxy, STREAMED, stream=True) as client:
        await client.receive()
        client.close()
        await asyncio.wait_for(sai.calls[0].ended.wait(), 1)
    line = await line_of(caplog)
    assert (line["status"], line["client_disconnected"]) == (499, True)
    assert "error" not in line
    await all_given_back(proxy)
    check_no_alarm(caplog)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc on this system")
async def test_a_stream_that_nobody_reads_takes_at_most_256_kib() -> None:
    """SAI is held back: of the 16 MiB of each answer only what is on its way is in memory."""
    streams = 4

    def resident_kib(pid: int) -> int:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4

    async with simulator() as sai, running_process(environment(sai.url)) as process:
        proxy = process.proxy
        assert (await proxy.ask("[[chars=1000000]][[split=65536]]", stream=True)).status == 200
        before = resident_kib(process.pid)
        clients = [await connect(proxy, receive_buffer=SMALL_WINDOW) for _ in range(streams)]
        for client in clients:
            await client.send(ask(STREAMED, stream=True))
        for client in clients:
            await client.receive(1)  # its answer is on its way
        await asyncio.sleep(1)  # for more of it to come than is promised, if it did
        assert not any(call.completed for call in sai.calls[1:])
        taken = resident_kib(process.pid) - before
        for client in clients:
            client.close()
    assert taken < streams * 256 + 1024, "with a MiB for all else"


# Clients that read slowly


async def read_slowly(client: Client, pause_s: float) -> bytes:
    """All of it, 64 KiB at a time."""
    received = bytearray()
    while piece := await client.receive():
        received += piece
        await asyncio.sleep(pause_s)
    return bytes(received)


async def test_a_stream_that_is_read_slowly_but_steadily_is_not_cut(
    start_proxy: StartProxy, caplog: pytest.LogCaptureFixture
) -> None:
    """It takes longer than the time for which a client may not read."""
    caplog.set_level("INFO")
    proxy = await start_proxy(WRITE_TIMEOUT="1")
    started = asyncio.get_running_loop().time()
    async with connected(proxy, receive_buffer=65_536) as client:
        await client.send(ask(f"[[chars={4 * MIB}]][[split=65536]]", stream=True))
        assert (await read_slowly(client, 0.01)).endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    assert asyncio.get_running_loop().time() - started > 1
    assert (await line_of(caplog))["status"] == 200
    check_no_alarm(caplog)


async def test_a_stream_that_is_read_very_slowly_but_steadily_is_not_cut(start_proxy: StartProxy) -> None:
    proxy = await start_proxy(WRITE_TIMEOUT="0.3")
    async with stalled(proxy, f"[[chars={3 * MIB}]][[split=65536]]", stream=True) as client:
        assert (await read_slowly(client, 0.01)).endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")


async def test_a_whole_answer_that_is_read_slowly_but_steadily_is_not_cut(start_proxy: StartProxy) -> None:
    proxy = await start_proxy(WRITE_TIMEOUT="0.3")
    async with stalled(proxy, WHOLE) as client:
        reply = read_reply(await read_slowly(client, 0.01))
    assert len(reply.body) == int(reply.headers["content-length"])
