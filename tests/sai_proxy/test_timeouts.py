import asyncio
from collections.abc import Callable
from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from sai_proxy.timeouts import Timeouts


class Loop:
    """A clock that is set, and the timers that were asked for."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.made = 0

    def time(self) -> float:
        return self.now

    def call_at(self, due: float, call: Callable[..., None], *args: object) -> "Timer":
        self.made += 1
        timer = (due, partial(call, *args))
        self.timers.append(timer)
        return Timer(self, timer)

    def run_until(self, end: float) -> None:
        while due := [timer for timer in self.timers if timer[0] <= end]:
            first = min(due, key=lambda timer: timer[0])
            self.timers.remove(first)
            self.now = max(first[0], self.now)
            first[1]()
        self.now = end


class Timer:
    def __init__(self, loop: Loop, timer: tuple[float, Callable[[], None]]) -> None:
        self._loop, self._timer = loop, timer

    def cancel(self) -> None:
        self._loop.timers.remove(self._timer)


def timeouts_of(loop: Loop) -> Timeouts:
    timeouts = Timeouts()
    timeouts._loop = loop  # type: ignore[assignment]
    return timeouts


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 12), st.none() | st.integers(0, 15)), max_size=30))
def test_each_call_is_made_in_time_unless_it_was_taken_back(asked: list[tuple[int, int, int | None]]) -> None:
    """asked: of each, the second in which it is asked for, for how many later, and after how many (and a half) it is
    taken back."""
    loop = Loop()
    timeouts = timeouts_of(loop)
    made: dict[int, float] = {}
    names: dict[int, int] = {}

    def note(number: int) -> None:
        made[number] = loop.now

    for second in range(40):
        loop.run_until(second)
        for number, (begin, length, _) in enumerate(asked):
            if begin == second:
                names[number] = timeouts.at(second + length, partial(note, number))
        loop.run_until(second + 0.5)
        for number, (begin, _, back) in enumerate(asked):
            if back is not None and begin + back == second:
                timeouts.cancel(names[number])
    assert made == {
        number: begin + length for number, (begin, length, back) in enumerate(asked) if back is None or back >= length
    }
    assert (len(timeouts), loop.timers) == (0, [])


def test_thousands_that_are_alike_share_one_timer() -> None:
    loop = Loop()
    timeouts = timeouts_of(loop)
    for number in range(10_000):
        loop.run_until(number * 0.001)
        name = timeouts.at(loop.now + 5, lambda: None)
        if number % 100:
            timeouts.cancel(name)
    assert loop.made < 110
    assert len(timeouts) <= 60, "those that are due have been called"


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 5)), min_size=1, max_size=6))
def test_calls_that_ask_for_themselves_again_keep_their_own_time(beats: list[tuple[int, int]]) -> None:
    """beats: of each, when it begins, and its interval, as of a heartbeat."""
    loop = Loop()
    timeouts = timeouts_of(loop)
    made: list[list[float]] = [[] for _ in beats]

    def beat(number: int) -> None:
        made[number].append(loop.now)
        if loop.now < 40:
            timeouts.at(loop.now + beats[number][1], partial(beat, number))

    for second in range(10):
        loop.run_until(second)
        for number, (begin, interval) in enumerate(beats):
            if begin == second:
                timeouts.at(second + interval, partial(beat, number))
    loop.run_until(100)
    for (begin, interval), times in zip(beats, made, strict=True):
        assert times == [begin + interval * (count + 1) for count in range(len(times))]
        assert times[-1] >= 40


async def test_a_call_may_ask_for_another() -> None:
    timeouts, calls = Timeouts(), 0
    loop, enough = asyncio.get_running_loop(), asyncio.Event()

    def again() -> None:
        nonlocal calls
        calls += 1
        if calls == 5:
            enough.set()
        else:
            timeouts.at(loop.time() + 0.001, again)

    timeouts.at(loop.time() + 0.001, again)
    timeouts.at(loop.time() + 60, again)
    await asyncio.wait_for(enough.wait(), 5)
    assert len(timeouts) == 1
