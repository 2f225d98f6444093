"""Timeouts of which most never come.

Each request has several, of the same lengths as all others have, so that they are due in the order in which they
begin: one timer of the loop serves all that are alike. A timer for each would be a tenth of what the proxy costs.
"""

import asyncio
from collections.abc import Callable
from itertools import count

Call = Callable[[], None]


class Timeouts:
    """Calls at times of the loop's clock, unless they are taken back before. Any time will do; those that come later
    than all that were asked for before cost next to nothing."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._names = count(1)
        self._waiting: dict[int, tuple[float, Call]] = {}  # in the order in which they are due
        self._last = self._timer_due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._looking = False
        self._apart: dict[int, asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        return len(self._waiting) + len(self._apart)

    def at(self, due: float, call: Call) -> int:
        """Call it then. What is returned takes it back. `call` must not raise."""
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        name = next(self._names)
        if due < self._last and self._waiting:
            self._apart[name] = loop.call_at(due, self._call_apart, name, call)
            return name
        self._waiting[name] = due, call
        self._last = due
        if self._timer is not None and due < self._timer_due:  # of what was taken back
            self._timer.cancel()
            self._timer = None
        if self._timer is None and not self._looking:
            self._set_timer(due)
        return name

    def cancel(self, name: int) -> None:
        """Take a call back, if it has not been made."""
        if self._waiting.pop(name, None) is None and (timer := self._apart.pop(name, None)) is not None:
            timer.cancel()

    def _set_timer(self, due: float) -> None:
        assert self._loop is not None
        self._timer_due = due
        self._timer = self._loop.call_at(due, self._look)

    def _look(self) -> None:
        """Of those that are still wanted, the first is due, or not yet."""
        assert self._loop is not None
        self._timer, self._looking = None, True  # a call may ask for another: the timer is for the first of all
        now = self._loop.time()
        while self._waiting:
            name, (due, call) = next(iter(self._waiting.items()))
            if due > now:
                break
            del self._waiting[name]
            call()
        self._looking = False
        if self._waiting:
            due, _ = next(iter(self._waiting.values()))
            self._set_timer(due)

    def _call_apart(self, name: int, call: Call) -> None:
        del self._apart[name]
        call()
