"""Something for a client to hear while there is nothing to say."""

import asyncio
from collections.abc import Awaitable, Callable

Beat = Callable[[], Awaitable[None]]


class Heartbeat:
    """A beat each `interval_s` seconds in which nothing was written.

    There is one timer for an answer, which is moved only when it fires too early: a stream of thousands of pieces
    costs a few of them. A beat runs beside whoever waits for SAI; before writing, `quiet` must have returned.
    """

    def __init__(self, interval_s: float, beat: Beat) -> None:
        self._loop = asyncio.get_running_loop()
        self._interval_s = interval_s
        self._beat = beat
        self._beating: asyncio.Task[None] | None = None
        self._writing = False
        self._due = self._loop.time() + interval_s
        self._timer: asyncio.Handle = self._loop.call_at(self._due, self._look)

    async def quiet(self) -> None:
        """Returns when no beat is being written, and none begins until `heard`. Raises what a beat has raised."""
        self._writing = True
        if self._beating is not None:
            await self._beating

    def heard(self) -> None:
        """Something has been written."""
        self._writing = False
        self._due = self._loop.time() + self._interval_s

    def soon(self) -> None:
        """A beat is due now, unless something is written at once."""
        self._due = self._loop.time()
        self._timer.cancel()
        self._timer = self._loop.call_soon(self._look)

    async def stop(self) -> None:
        """Returns when no beat is running, and none will."""
        self._timer.cancel()
        beating, self._beating = self._beating, None
        if beating is not None:
            beating.cancel()
            await asyncio.wait([beating])
            if not beating.cancelled():
                beating.exception()  # nobody is left to whom it matters

    def _look(self) -> None:
        """The timer has fired: too early, or in time for a beat."""
        now = self._loop.time()
        if now >= self._due:
            self._due = now + self._interval_s
            if not self._writing and self._beating is None:
                self._beating = self._loop.create_task(self._beat_once())
        self._timer = self._loop.call_at(self._due, self._look)

    async def _beat_once(self) -> None:
        await self._beat()
        self._beating = None
