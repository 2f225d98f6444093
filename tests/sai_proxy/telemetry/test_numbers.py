"""What Prometheus is told must be what its own client would tell."""

import prometheus_client
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from sai_proxy.telemetry.numbers import Numbers

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
    assert told(numbers).splitlines() == [line for line in lines if b"_created" not in line], "times it does without"


def test_a_gauge_is_read_when_somebody_asks() -> None:
    numbers, there = Numbers({}), [1.0]
    numbers.gauge("g", "Read.").read_by(lambda: there[0])
    running = numbers.gauge("r", "Running.")
    with running.one_more():
        there[0] = 7
        assert b"\ng 7.0\n" in told(numbers)
        assert b"\nr 1.0\n" in told(numbers)
    assert b"\nr 0.0\n" in told(numbers)
