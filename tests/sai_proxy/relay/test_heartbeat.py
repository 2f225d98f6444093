import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from sai_proxy.relay.heartbeat import Beat, Heartbeat
from sai_proxy.timeouts import Timeouts
from tests.support import until


class Client:
    """Counts beats; `gate` holds them up."""

    def __init__(self) -> None:
        self.beats = 0
        self.running = 0
        self.gate: asyncio.Event | None = None
        self.fault: Exception | None = None

    async def beat(self) -> None:
        self.running += 1
        try:
            if self.gate is not None:
                await self.gate.wait()
            if self.fault is not None:
                raise self.fault
            self.beats += 1
        finally:
            self.running -= 1


@asynccontextmanager
async def beating(beat: Beat, interval_s: float = 0.005) -> AsyncIterator[Heartbeat]:
    timeouts = Timeouts()
    heartbeat = Heartbeat(interval_s, beat, timeouts)
    try:
        yield heartbeat
    finally:
        await heartbeat.stop()
        assert len(timeouts) == 0


async def paused(heartbeat: Heartbeat) -> None:
    """Returns when something may be written."""
    if (beating := heartbeat.pause()) is not None:
        await beating


async def test_beats_come_while_nothing_is_written_and_end_when_it_stops() -> None:
    client = Client()
    async with beating(client.beat):
        await until(lambda: client.beats >= 3)
    before = client.beats
    await asyncio.sleep(0.03)
    assert client.beats == before


async def test_what_is_written_takes_the_place_of_beats() -> None:
    client = Client()
    async with beating(client.beat, 0.2) as heartbeat:
        for _ in range(30):
            await paused(heartbeat)
            heartbeat.heard()
            await asyncio.sleep(0.01)
    assert client.beats == 0


async def test_while_somebody_writes_nobody_beats() -> None:
    """A client that does not read holds the writer up for long."""
    client = Client()
    async with beating(client.beat) as heartbeat:
        await paused(heartbeat)
        await asyncio.sleep(0.05)
        assert client.beats == 0
        heartbeat.heard()
        await until(lambda: client.beats)


async def test_a_writer_waits_for_a_beat_that_is_being_written() -> None:
    client = Client()
    client.gate = asyncio.Event()
    async with beating(client.beat) as heartbeat:
        await until(lambda: client.running)
        waiting = asyncio.ensure_future(paused(heartbeat))
        await asyncio.sleep(0.02)
        assert not waiting.done()
        assert client.running == 1
        client.gate.set()
        await waiting
        assert client.running == 0


async def test_a_beat_is_due_soon_unless_something_is_written_at_once() -> None:
    client = Client()
    async with beating(client.beat, 60) as heartbeat:
        heartbeat.soon()
        await paused(heartbeat)
        heartbeat.heard()
        for _ in range(5):
            await asyncio.sleep(0)
        assert client.beats == 0
        heartbeat.soon()
        await until(lambda: client.beats == 1)


async def test_what_a_beat_raises_is_raised_where_something_is_written() -> None:
    client = Client()
    client.fault = ConnectionResetError("gone")
    async with beating(client.beat) as heartbeat:
        await asyncio.sleep(0.03)
        with pytest.raises(ConnectionResetError, match="gone"):
            await paused(heartbeat)


async def test_a_beat_that_hangs_or_fails_ends_with_the_answer(caplog: pytest.LogCaptureFixture) -> None:
    hanging, failing = Client(), Client()
    hanging.gate = asyncio.Event()
    failing.fault = ValueError("a bug")
    async with beating(hanging.beat), beating(failing.beat):
        await until(lambda: hanging.running)
        await asyncio.sleep(0.02)
    assert hanging.running == 0
    gc.collect()
    assert caplog.records == [], "no exception was left for the loop to find"
