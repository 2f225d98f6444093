"""Counters, gauges and histograms as plain numbers, which become Prometheus' families when somebody asks for them.

prometheus-client's own take a lock and check their labels each time, which at twenty a request is a tenth of what the
proxy adds to it. All of these are used by the event loop's thread alone. Several processes add theirs up by snapshots.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Literal

import msgspec
from msgspec import Struct
from prometheus_client import ProcessCollector
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
Rows = dict[Labels, list[float]]
"""The values of one family by its labels: one number, or what a histogram has."""

Kind = Literal["counter", "histogram", "gauge", "most", "least"]
"""How the numbers of several processes become one: they are added up, but of some the largest or the smallest is
told. What was counted stays when its process has ended."""


class FamilySnapshot(Struct):
    kind: Kind
    rows: list[tuple[Labels, list[float]]] = []


class Snapshot(Struct):
    """All numbers of a process, or of several, by the names of their families."""

    families: dict[str, FamilySnapshot] = {}

    def encode(self) -> bytes:
        return _encoder.encode(self)

    @staticmethod
    def decode(data: bytes) -> "Snapshot":
        """Raises ValueError."""
        return _decoder.decode(data)

    def rows(self, name: str) -> Rows:
        family = self.families.get(name)
        return dict(family.rows) if family is not None else {}


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Snapshot)


def joined(snapshots: Sequence[Snapshot]) -> Snapshot:
    """The numbers of all of them together."""
    kinds: dict[str, Kind] = {}
    rows: dict[str, Rows] = {}
    for snapshot in snapshots:
        for name, family in snapshot.families.items():
            kinds[name], ours = family.kind, rows.setdefault(name, {})
            for labels, values in family.rows:
                before = ours.get(labels)
                ours[labels] = values if before is None else list(map(_JOIN[family.kind], before, values))
    return Snapshot({name: FamilySnapshot(kinds[name], list(rows[name].items())) for name in rows})


def lasting(snapshot: Snapshot) -> Snapshot:
    """What stays of it when its process has ended: what was counted."""
    return Snapshot({name: f for name, f in snapshot.families.items() if f.kind in ("counter", "histogram")})


def with_gauge(snapshot: Snapshot, name: str, value: float) -> Snapshot:
    """The same with another value of a gauge that has no labels."""
    return Snapshot({**snapshot.families, name: FamilySnapshot("gauge", [((), [value])])})


_JOIN: Mapping[Kind, Callable[[float, float], float]] = {
    "counter": lambda a, b: a + b,
    "histogram": lambda a, b: a + b,
    "gauge": lambda a, b: a + b,
    "most": max,
    "least": min,
}


class Counter:
    """What has happened how often. Without labels it is there from the start, at 0."""

    kind: Kind = "counter"

    def __init__(self, name: str, help: str, labels: Sequence[str] = ()) -> None:
        self.name, self.help, self.labels = name, help, labels
        self._values: dict[Labels, float] = {} if labels else {(): 0}

    def add(self, *labels: str, by: float = 1) -> None:
        self._values[labels] = self._values.get(labels, 0) + by

    def rows(self) -> Rows:
        return {labels: [value] for labels, value in self._values.items()}

    def family(self, rows: Rows) -> Metric:
        family = CounterMetricFamily(self.name, self.help, labels=self.labels)
        for labels, (value,) in rows.items():
            family.add_metric(labels, value)
        return family


class Gauge:
    """How much there is now: set, or read off something else when somebody asks. kind: `most` where all processes
    have the same."""

    def __init__(self, name: str, help: str, labels: Sequence[str] = (), *, kind: Kind = "gauge") -> None:
        self.name, self.help, self.labels, self.kind = name, help, labels, kind
        self._values: dict[Labels, float] = {} if labels else {(): 0}
        self._read: Callable[[], float] | None = None

    def set(self, value: float, *labels: str) -> None:
        self._values[labels] = value

    def read_by(self, read: Callable[[], float]) -> None:
        """Read its value off something, from now on."""
        self._read = read

    def add(self, by: float) -> None:
        self._values[()] += by

    def rows(self) -> Rows:
        if self._read is not None:
            self._values[()] = self._read()
        return {labels: [value] for labels, value in self._values.items()}

    def family(self, rows: Rows) -> Metric:
        family = GaugeMetricFamily(self.name, self.help, labels=self.labels)
        for labels, (value,) in rows.items():
            family.add_metric(labels, value)
        return family


class Histogram:
    """How values are spread. bounds: the upper ones of its buckets, ascending, to which an endless one is added."""

    kind: Kind = "histogram"

    def __init__(self, name: str, help: str, labels: Sequence[str] = (), *, bounds: Sequence[float]) -> None:
        self.name, self.help, self.labels = name, help, labels
        self._bounds = bounds
        self._rows: Rows = {}
        """Of each bucket, how many values are in it and in none before; at the end, the sum of all values."""
        if not labels:
            self._row(())

    def observe(self, value: float, *labels: str) -> None:
        row = self._rows.get(labels) or self._row(labels)
        row[bisect_left(self._bounds, value)] += 1
        row[-1] += value

    def _row(self, labels: Labels) -> list[float]:
        row = self._rows[labels] = [0.0] * (len(self._bounds) + 2)
        return row

    def rows(self) -> Rows:
        return self._rows

    def family(self, rows: Rows) -> Metric:
        family = HistogramMetricFamily(self.name, self.help, labels=self.labels)
        names = [*map(floatToGoString, self._bounds), "+Inf"]
        for labels, (*counts, total) in rows.items():
            family.add_metric(labels, list(zip(names, accumulate(counts), strict=True)), total)
        return family


_PROCESS_KINDS: Mapping[str, Kind] = {
    "process_cpu_seconds": "counter",
    "process_max_fds": "most",
    "process_start_time_seconds": "least",
}


class Numbers(Collector):
    """All of a process' numbers, and what the system knows of it. info: labels of what does not change.
    before_reading: brings them up to date."""

    def __init__(self, info: dict[str, str]) -> None:
        self.before_reading: Callable[[], None] = lambda: None
        self._info = info
        self._process = ProcessCollector(registry=None)
        self.families: list[Counter | Gauge | Histogram] = []

    def counter(self, name: str, help: str, labels: Sequence[str] = ()) -> Counter:
        self.families.append(made := Counter(name, help, labels))
        return made

    def gauge(self, name: str, help: str, labels: Sequence[str] = (), *, kind: Kind = "gauge") -> Gauge:
        self.families.append(made := Gauge(name, help, labels, kind=kind))
        return made

    def histogram(self, name: str, help: str, labels: Sequence[str] = (), *, bounds: Sequence[float]) -> Histogram:
        self.families.append(made := Histogram(name, help, labels, bounds=bounds))
        return made

    def snapshot(self) -> Snapshot:
        """All of them as they are now."""
        self.before_reading()
        families = {family.name: FamilySnapshot(family.kind, list(family.rows().items())) for family in self.families}
        for metric in self._process.collect():
            kind = _PROCESS_KINDS.get(metric.name, "gauge")
            families[metric.name] = FamilySnapshot(kind, [((), [metric.samples[0].value])])
        return Snapshot(families)

    def collect(self) -> Iterator[Metric]:
        """Prometheus' families of this process' numbers."""
        yield from self.told(self.snapshot())

    def told(self, snapshot: Snapshot) -> Iterator[Metric]:
        """Prometheus' families of these numbers, of a process that has the same families."""
        for metric in self._process.collect():
            values = snapshot.rows(metric.name).get(())
            if values is not None:
                sample = metric.samples[0]
                metric.samples[0] = sample._replace(value=values[0])
            yield metric
        yield InfoMetricFamily("sai_proxy", "The running version.", self._info)
        for family in self.families:
            yield family.family(snapshot.rows(family.name))
