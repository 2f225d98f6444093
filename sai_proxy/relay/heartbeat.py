"""Something for a client to hear while there is nothing to say."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from sai_proxy.timeouts import Timeouts

Beat = Callable[[], Coroutine[Any, Any, None]]


class Heartbeat:
    """A beat each `interval_s` seconds in which nothing was written.

    A beat is a task that runs beside whoever waits for SAI. Whoever writes calls `pause` before and `heard` afterwards.
    timeouts: those of all answers' heartbeats.
    """

    __slots__ = ("_beat", "_beating", "_due", "_interval_s", "_loop", "_timeout", "_timeouts", "_writing")

    def __init__(self, interval_s: float, beat: Beat, timeouts: Timeouts) -> None:
        self._loop = asyncio.get_running_loop()
        self._interval_s = interval_s
        self._beat: Beat | None = beat
        self._timeouts = timeouts
        self._beating: asyncio.Task[None] | None = None
        self._writing = False
        self._due = self._loop.time() + interval_s
        self._timeout: int | None = timeouts.at(self._due, self._look)

    def pause(self) -> Awaitable[None] | None:
        """None begins until `heard`. A beat that is being written is returned, to be waited for; it raises what went
        wrong with it."""
        self._writing = True
        return self._beating

    def heard(self) -> None:
        """Something has been written."""
        self._writing = False
        self._due = self._loop.time() + self._interval_s

    def soon(self) -> None:
        """A beat is due now, unless something is written at once."""
        self._due = self._loop.time()
        self._loop.call_soon(self._beat_if_due)

    async def stop(self) -> None:
        """Returns when no beat is running, and none will. What beats is let go: it holds this, as a rule, and the two
        would stay until the garbage collector comes."""
        if self._timeout is None:
            return
        self._timeouts.cancel(self._timeout)
        self._timeout = None
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.wait([self._beating])
            if not self._beating.cancelled():
                self._beating.exception()  # nobody is left to whom it matters
        self._beat = self._beating = None

    def _look(self) -> None:
        """The timeout has come: in time for a beat, or too early."""
        self._beat_if_due()
        self._timeout = self._timeouts.at(self._due, self._look)

    def _beat_if_due(self) -> None:
        now = self._loop.time()
        if self._timeout is None or now < self._due:
            return
        self._due = now + self._interval_s
        if not self._writing and self._beating is None:
            self._beating = self._loop.create_task(self._beat_once())

    async def _beat_once(self) -> None:
        assert self._beat is not None
        await self._beat()
        self._beating = None
