"""What Prometheus is told must be what its own client would tell."""

import prometheus_client
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from sai_proxy.telemetry.numbers import Numbers, Snapshot, joined, lasting, with_gauge

BOUNDS = (0.1, 0.5, 1, 10)
LABELS = st.sampled_from(["a", "b", 'quo"te\n\\'])
VALUES = st.one_of(st.floats(0, 20), st.sampled_from([*BOUNDS, 0, 1e9]))


def told(numbers: Numbers) -> bytes:
    registry = CollectorRegistry()
    registry.register(numbers)
    return generate_latest(registry)


@given(st.lists(st.tuples(LABELS, VALUES)))
def test_numbers_are_told_as_prometheus_own_client_tells_them(seen: list[tuple[str, float]]) -> None:
    theirs = CollectorRegistry()
    prometheus_client.Info("sai_proxy", "The running version.", registry=theirs).info({"version": "1"})
    a = prometheus_client.Counter("c", "A counter.", ["l"], registry=theirs)
    b = prometheus_client.Gauge("g", "A gauge.", ["l"], registry=theirs)
    c = prometheus_client.Histogram("h", "A histogram.", ["l"], registry=theirs, buckets=BOUNDS)
    d = prometheus_client.Histogram("p", "A plain one.", registry=theirs, buckets=BOUNDS)
    e = prometheus_client.Counter("q", "A plain one.", registry=theirs)
    numbers = Numbers({"version": "1"})
    counter, gauge = numbers.counter("c", "A counter.", ["l"]), numbers.gauge("g", "A gauge.", ["l"])
    histogram = numbers.histogram("h", "A histogram.", ["l"], bounds=BOUNDS)
    plain, count = numbers.histogram("p", "A plain one.", bounds=BOUNDS), numbers.counter("q", "A plain one.")
    for label, value in seen:
        a.labels(label).inc(value)
        b.labels(label).set(value)
        c.labels(label).observe(value)
        d.observe(value)
        e.inc()
        counter.add(label, by=value)
        gauge.set(value, label)
        histogram.observe(value, label)
        plain.observe(value)
        count.add()
    lines = generate_latest(theirs).splitlines()
    ours = [line for line in told(numbers).splitlines() if b"process_" not in line]
    assert ours == [line for line in lines if b"_created" not in line], "times it does without"


def test_a_gauge_is_read_when_somebody_asks() -> None:
    numbers, there = Numbers({}), [1.0]
    numbers.gauge("g", "Read.").read_by(lambda: there[0])
    running = numbers.gauge("r", "Running.")
    running.add(2)
    there[0] = 7
    assert b"\ng 7.0\n" in told(numbers)
    assert b"\nr 2.0\n" in told(numbers)
    running.add(-1)
    assert b"\nr 1.0\n" in told(numbers)


def of_one(counted: int, there: float) -> Numbers:
    numbers = Numbers({"version": "1"})
    numbers.counter("c", "A counter.", ["l"]).add("a", by=counted)
    numbers.counter("d", "Of one alone.", ["l"]).add(str(counted))
    numbers.gauge("g", "A gauge.").set(there)
    numbers.gauge("m", "The same in all.", ["l"], kind="most").set(1, "x")
    numbers.histogram("h", "A histogram.", bounds=BOUNDS).observe(there)
    return numbers


def test_numbers_of_several_processes_are_one() -> None:
    first, second = of_one(1, 0.3), of_one(2, 0.7)
    together = joined([Snapshot.decode(numbers.snapshot().encode()) for numbers in (first, second)])
    assert together.rows("c") == {("a",): [3]}
    assert together.rows("d") == {("1",): [1], ("2",): [1]}
    assert together.rows("g") == {(): [1.0]}
    assert together.rows("m") == {("x",): [1]}
    assert together.rows("h") == {(): [0, 1, 1, 0, 0, 1.0]}
    cpu = [numbers.snapshot().rows("process_cpu_seconds")[()][0] for numbers in (first, second)]
    assert together.rows("process_cpu_seconds")[()][0] <= sum(cpu)
    assert together.rows("process_max_fds") == first.snapshot().rows("process_max_fds")
    text = b"\n".join(line for metric in first.told(together) for line in [repr(metric).encode()])
    assert b"'le': '+Inf'}, value=2" in text


def test_what_was_counted_outlives_its_process_and_what_was_there_does_not() -> None:
    ended = lasting(of_one(5, 9.0).snapshot())
    together = joined([ended, of_one(1, 1.0).snapshot()])
    assert together.rows("c") == {("a",): [6]}
    assert together.rows("h")[()][-1] == 10.0
    assert together.rows("g") == {(): [1.0]}
    assert with_gauge(together, "g", 7).rows("g") == {(): [7]}
