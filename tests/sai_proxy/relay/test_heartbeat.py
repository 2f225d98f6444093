import asyncio

import pytest

from sai_proxy.relay.heartbeat import open_with_heartbeats, read_with_heartbeats


class Opened:
    def __init__(self) -> None:
        self.closed = False

    def close(self) -> None:
        self.closed = True


async def no_beat() -> None:
    return None


async def test_beats_come_until_it_is_open() -> None:
    beats = []
    gate = asyncio.Event()

    async def beat() -> None:
        beats.append(1)
        if len(beats) == 3:
            gate.set()

    async def opening() -> Opened:
        await gate.wait()
        return Opened()

    assert not (await open_with_heartbeats(opening(), 0.001, beat)).closed
    assert len(beats) == 3


async def test_a_failure_to_open_is_passed_on() -> None:
    async def opening() -> Opened:
        raise ValueError("refused")

    with pytest.raises(ValueError, match="refused"):
        await open_with_heartbeats(opening(), 1, no_beat)


@pytest.mark.parametrize("steps", range(6))
async def test_what_opens_while_its_caller_is_cancelled_is_closed(steps: int) -> None:
    """The caller is cancelled `steps` turns of the loop after the result is on its way."""
    gate = asyncio.Event()
    made: list[Opened] = []
    handed_over: list[Opened] = []

    async def opening() -> Opened:
        await gate.wait()
        made.append(Opened())
        return made[0]

    async def caller() -> None:
        handed_over.append(await open_with_heartbeats(opening(), 60, no_beat))
        await asyncio.Event().wait()

    task = asyncio.ensure_future(caller())
    for _ in range(3):
        await asyncio.sleep(0)
    gate.set()
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert all(opened.closed or handed_over for opened in made)


async def test_a_beat_that_fails_ends_the_opening() -> None:
    cancelled = asyncio.Event()

    async def opening() -> Opened:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return Opened()

    async def beat() -> None:
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await open_with_heartbeats(opening(), 0.001, beat)
    assert cancelled.is_set()


async def test_reading_goes_on_where_it_was_after_a_beat() -> None:
    pieces: asyncio.Queue[str] = asyncio.Queue()
    beats = []

    async def beat() -> None:
        beats.append(1)
        if len(beats) == 2:
            pieces.put_nowait("piece")

    assert await read_with_heartbeats(pieces.get, 0.001, beat) == "piece"
    assert len(beats) == 2
