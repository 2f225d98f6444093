"""Counters, gauges and histograms as plain numbers, which become Prometheus' families when somebody asks for them.

prometheus-client's own take a lock and check their labels each time, which at twenty a request is a tenth of what the
proxy adds to it. All of these are used by the event loop's thread alone.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

Labels = tuple[str, ...]


class Counter:
    """What has happened how often. Without labels it is there from the start, at 0."""

    def __init__(self, name: str, help: str, labels: Sequence[str] = ()) -> None:
        self.name, self.help, self.labels = name, help, labels
        self.values: dict[Labels, float] = {} if labels else {(): 0}

    def add(self, *labels: str, by: float = 1) -> None:
        self.values[labels] = self.values.get(labels, 0) + by

    def family(self) -> CounterMetricFamily:
        family = CounterMetricFamily(self.name, self.help, labels=self.labels)
        for labels, value in self.values.items():
            family.add_metric(labels, value)
        return family


class Gauge:
    """How much there is now: set, or read off something else when somebody asks."""

    def __init__(self, name: str, help: str, labels: Sequence[str] = ()) -> None:
        self.name, self.help, self.labels = name, help, labels
        self.values: dict[Labels, float] = {} if labels else {(): 0}
        self._read: Callable[[], float] | None = None

    def set(self, value: float, *labels: str) -> None:
        self.values[labels] = value

    def read_by(self, read: Callable[[], float]) -> None:
        """Read its value off something, from now on."""
        self._read = read

    def add(self, by: float) -> None:
        self.values[()] += by

    @contextmanager
    def one_more(self) -> Iterator[None]:
        """One more while the context lasts."""
        self.values[()] += 1
        try:
            yield
        finally:
            self.values[()] -= 1

    def family(self) -> GaugeMetricFamily:
        if self._read is not None:
            self.values[()] = self._read()
        family = GaugeMetricFamily(self.name, self.help, labels=self.labels)
        for labels, value in self.values.items():
            family.add_metric(labels, value)
        return family


class Histogram:
    """How values are spread. bounds: the upper ones of its buckets, ascending, to which an endless one is added."""

    def __init__(self, name: str, help: str, labels: Sequence[str] = (), *, bounds: Sequence[float]) -> None:
        self.name, self.help, self.labels = name, help, labels
        self._bounds = bounds
        self.values: dict[Labels, list[float]] = {}
        """Of each bucket, how many values are in it and in none before; at the end, the sum of all values."""
        if not labels:
            self._row(())

    def observe(self, value: float, *labels: str) -> None:
        row = self.values.get(labels) or self._row(labels)
        row[bisect_left(self._bounds, value)] += 1
        row[-1] += value

    def _row(self, labels: Labels) -> list[float]:
        row = self.values[labels] = [0.0] * (len(self._bounds) + 2)
        return row

    def family(self) -> HistogramMetricFamily:
        family = HistogramMetricFamily(self.name, self.help, labels=self.labels)
        names = [*map(floatToGoString, self._bounds), "+Inf"]
        for labels, (*counts, total) in self.values.items():
            family.add_metric(labels, list(zip(names, accumulate(counts), strict=True)), total)
        return family


class Numbers(Collector):
    """All of a process' numbers. info: labels of what does not change."""

    def __init__(self, info: dict[str, str]) -> None:
        self._info = info
        self.families: list[Counter | Gauge | Histogram] = []

    def counter(self, name: str, help: str, labels: Sequence[str] = ()) -> Counter:
        self.families.append(made := Counter(name, help, labels))
        return made

    def gauge(self, name: str, help: str, labels: Sequence[str] = ()) -> Gauge:
        self.families.append(made := Gauge(name, help, labels))
        return made

    def histogram(self, name: str, help: str, labels: Sequence[str] = (), *, bounds: Sequence[float]) -> Histogram:
        self.families.append(made := Histogram(name, help, labels, bounds=bounds))
        return made

    def collect(self) -> Iterator[Metric]:
        """Prometheus' families of all of them."""
        yield InfoMetricFamily("sai_proxy", "The running version.", self._info)
        for family in self.families:
            yield family.family()
