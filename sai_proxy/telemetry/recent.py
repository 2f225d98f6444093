"""The last requests and the last quarter of an hour of one process, for its home page: no texts, no keys.

All is bounded: so many requests, so many intervals, and of each interval so many times to the first text.
"""

import time
from collections import Counter, deque
from typing import Any

from msgspec import UNSET, Struct, UnsetType, field

from sai_proxy.telemetry.record import RequestRecord

INTERVAL_S = 15
INTERVALS = 60
MAX_REQUESTS = 50
MAX_SAMPLES = 500
"""Times to the first text that an interval keeps."""

FAULTS = ("caller", "policy", "sai", "proxy")


class RecentRequest(Struct, kw_only=True, omit_defaults=True):
    """One that has ended. time: Unix seconds."""

    time: float
    status: int
    duration_s: float
    model: str | None = None
    road: str | None = None
    first_text_s: float | None = None
    prompt_tokens: int | UnsetType = UNSET
    completion_tokens: int | UnsetType = UNSET
    error: str | None = None


class Interval(Struct):
    """What ended in it. start: Unix seconds."""

    start: float
    requests: int = 0
    tokens: int = 0
    first_text_s: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)


class Recent:
    """Requests to a model, as they end."""

    def __init__(self) -> None:
        self._requests: deque[tuple[float, RequestRecord]] = deque(maxlen=MAX_REQUESTS)
        self._intervals: deque[Interval] = deque(maxlen=INTERVALS)

    def add(self, record: RequestRecord, ended: float) -> None:
        """One has ended, in Unix seconds; its record is complete."""
        self._requests.appendleft((ended, record))
        interval = self._interval(ended)
        interval.requests += 1
        interval.tokens += record.completion_tokens or 0
        if record.fault:
            interval.failures[record.fault] += 1
        if record.ttfb_s is not None and len(interval.first_text_s) < MAX_SAMPLES:
            interval.first_text_s.append(record.ttfb_s)

    def figures(self, in_flight: int) -> dict[str, Any]:
        """All of it, as the page reads it. Series have one value an interval, oldest first."""
        now = time.time()
        self._interval(now)
        intervals = [one for one in self._intervals if one.start > now - INTERVAL_S * (INTERVALS + 1)]
        samples = [seconds for one in intervals for seconds in one.first_text_s]
        return {
            "in_flight": in_flight,
            "requests": sum(one.requests for one in intervals),
            "failures": sum(sum(one.failures.values()) for one in intervals),
            "tokens_per_s": sum(one.tokens for one in intervals) / (INTERVAL_S * len(intervals)),
            "first_text_p50_s": _percentile(samples, 0.5),
            "first_text_p95_s": _percentile(samples, 0.95),
            "series": {
                "time": [one.start for one in intervals],
                "requests": [one.requests for one in intervals],
                "tokens_per_s": [one.tokens / INTERVAL_S for one in intervals],
                "first_text_p50_s": [_percentile(one.first_text_s, 0.5) for one in intervals],
                "first_text_p95_s": [_percentile(one.first_text_s, 0.95) for one in intervals],
                "failures": {fault: [one.failures[fault] for one in intervals] for fault in FAULTS},
            },
            "recent": [_shown(*request) for request in self._requests],
        }

    def _interval(self, now: float) -> Interval:
        """The one that `now` is in; those in which nothing happened are there, too."""
        if self._intervals and 0 <= now - self._intervals[-1].start < INTERVAL_S:
            return self._intervals[-1]
        start = now - now % INTERVAL_S
        if not self._intervals or start - self._intervals[-1].start > INTERVAL_S * INTERVALS:
            self._intervals.append(Interval(start))
        while self._intervals[-1].start < start:
            self._intervals.append(Interval(self._intervals[-1].start + INTERVAL_S))
        return self._intervals[-1]


def _shown(now: float, record: RequestRecord) -> RecentRequest:
    return RecentRequest(
        time=now,
        status=record.status,
        duration_s=round(record.duration_s, 3),
        model=record.model,
        road=record.road,
        first_text_s=None if record.ttfb_s is None else round(record.ttfb_s, 3),
        prompt_tokens=UNSET if record.prompt_tokens is None else record.prompt_tokens,
        completion_tokens=UNSET if record.completion_tokens is None else record.completion_tokens,
        error=record.error,
    )


def _percentile(values: list[float], share: float) -> float | None:
    if not values:
        return None
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]
