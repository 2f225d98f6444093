"""SAI fails for minutes, or limits its credentials: U24, and what protects SAI and its users then."""

import asyncio
from collections.abc import Callable
from itertools import count

import pytest

from sai_proxy.sai_api.breaker import FAILURES, MAX_PAUSE_S
from sai_proxy.sai_api.retries import BUDGET_RESERVE, BUDGET_SHARE
from tests.faults.played_sai import Behaviour, Call, PlayedSai, end, played_sai, reset, whole
from tests.faults.watched import Outcome, Watched, watched_proxy
from tests.integration.raw_upstream import head
from tests.support import SYSTEM_COOKIE, SYSTEM_KEY, USER_KEY, free_port, until

HELLO = whole("hello", "Content-Type: text/plain")
BROKEN = whole("broken", status="500 Internal Server Error")
BUSY = whole("busy", "Retry-After: 0", status="503 Service Unavailable")


async def ask_often(proxy: Watched, times: int, *, at_once: int, stream: bool, key: str | None = None) -> list[int]:
    """Statuses of that many requests, so many of them at a time."""
    left = iter(range(times))

    async def worker() -> list[int]:
        return [(await proxy.ask(stream=stream, key=key)).status for _ in left]

    return [status for statuses in await asyncio.gather(*(worker() for _ in range(at_once))) for status in statuses]


class Outage:
    """A SAI that fails for as long as it is on: `share` of its answers, evenly spread."""

    def __init__(self, failure: bytes, every: int = 1) -> None:
        self.on = True
        self._failure = failure
        self._every = every
        self._numbers = count()

    async def __call__(self, call: Call) -> None:
        failing = self.on and next(self._numbers) % self._every == 0
        await call.send(self._failure if failing else HELLO)


async def test_u24_half_of_answers_failing_adds_a_fifth_of_load_at_most_and_is_over_at_once(stream: bool) -> None:
    requests = 300
    outage = Outage(BUSY, every=2)
    async with played_sai(outage) as sai, watched_proxy(sai, MAX_RETRIES="3") as proxy:
        statuses = await ask_often(proxy, requests, at_once=10, stream=stream)
        assert set(statuses) == {200, 503}
        assert statuses.count(200) > requests / 2, "some failures were mended"
        assert len(sai.calls) <= requests * (1 + BUDGET_SHARE) + BUDGET_RESERVE
        outage.on = False
        before = len(sai.calls)
        assert await ask_often(proxy, 20, at_once=10, stream=stream) == [200] * 20
        assert len(sai.calls) == before + 20


async def test_u24_a_total_outage_is_not_multiplied(stream: bool) -> None:
    """Nor does it cost SAI more than some calls until it is left alone."""
    async with played_sai(BUSY) as sai, watched_proxy(sai, MAX_RETRIES="3") as proxy:
        assert set(await ask_often(proxy, 200, at_once=10, stream=stream)) == {503}
        assert len(sai.calls) < 60


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sai_proxy.sai_api.breaker.FIRST_PAUSE_S", 0.3)


async def open_the_circuit(proxy: Watched, sai: PlayedSai | None = None) -> None:
    for _ in range(FAILURES):
        await proxy.ask()
    if sai is not None:
        assert len(sai.calls) == FAILURES


async def first_probe(proxy: Watched, probes: Callable[[], object], *, stream: bool = False) -> "asyncio.Task[Outcome]":
    """The first request that SAI hears of again, which `probes` tells; it does not end by itself."""
    for _ in range(500):
        asking = asyncio.create_task(proxy.ask(stream=stream))
        await until(lambda: asking.done() or probes())  # noqa: B023
        if probes():
            return asking
        await asyncio.sleep(0.02)
    raise AssertionError("SAI was never asked again")


@pytest.mark.parametrize(
    "failure",
    [BROKEN, whole("", status="504 Gateway Timeout"), whole("", status="408 Request Timeout"), reset, end],
    ids=["500", "504", "408", "reset", "closed"],
)
async def test_u24_a_sai_that_only_fails_is_left_alone(stream: bool, failure: Behaviour | bytes) -> None:
    async with played_sai(failure) as sai, watched_proxy(sai) as proxy:
        await open_the_circuit(proxy, sai)
        for _ in range(5):
            outcome = await proxy.ask(stream=stream)
            assert (outcome.status, outcome.code) == (503, "upstream_unavailable")
            assert 1 <= int(outcome.headers["Retry-After"]) <= 5
        assert len(sai.calls) == FAILURES
        readiness = await proxy.proxy.get("/health/readiness")
        assert (readiness.status, readiness.json["sai"]) == (200, "failing")


async def test_u24_a_sai_that_cannot_be_reached_is_left_alone() -> None:
    async with watched_proxy(f"http://127.0.0.1:{free_port()}") as proxy:
        await open_the_circuit(proxy)
        assert (await proxy.ask()).code == "upstream_unavailable"
        assert "attempts" not in proxy.requests[-1] or proxy.requests[-1]["attempts"] == 0


async def test_u24_one_call_finds_out_whether_sai_is_back(stream: bool, short_pauses: None) -> None:
    outage = Outage(BROKEN)
    going_on = asyncio.Event()

    async def behave(call: Call) -> None:
        if call.number > FAILURES:
            await going_on.wait()
        await outage(call)

    async with played_sai(behave) as sai, watched_proxy(sai) as proxy:
        await open_the_circuit(proxy, sai)
        outage.on = False
        probing = await first_probe(proxy, lambda: len(sai.calls) > FAILURES, stream=stream)
        others = await ask_often(proxy, 10, at_once=10, stream=stream)
        assert others == [503] * 10
        assert len(sai.calls) == FAILURES + 1
        going_on.set()
        assert (await probing).text == "hello"
        assert await ask_often(proxy, 10, at_once=10, stream=stream) == [200] * 10
        assert (await proxy.proxy.get("/health/readiness")).json["sai"] == "ok"


async def test_u24_a_probe_that_fails_closes_the_door_again(stream: bool, short_pauses: None) -> None:
    async with played_sai(BROKEN) as sai, watched_proxy(sai) as proxy:
        await open_the_circuit(proxy, sai)
        while len(sai.calls) == FAILURES:
            await proxy.ask(stream=stream)
            await asyncio.sleep(0.02)
        assert await ask_often(proxy, 10, at_once=10, stream=stream) == [503] * 10
        assert len(sai.calls) == FAILURES + 1


async def test_u24_a_probe_whose_client_leaves_lets_another_find_out(short_pauses: None) -> None:
    silent = asyncio.Event()

    async def behave(call: Call) -> None:
        if call.number == FAILURES + 1:
            silent.set()
            await asyncio.Event().wait()
        await call.send(BROKEN if call.number <= FAILURES else HELLO)

    async with played_sai(behave) as sai, watched_proxy(sai) as proxy:
        await open_the_circuit(proxy, sai)
        await proxy.leave(await first_probe(proxy, silent.is_set))
        assert (await proxy.ask()).text == "hello"


def test_u24_a_pause_is_never_longer_than_half_a_minute() -> None:
    assert MAX_PAUSE_S <= 30


@pytest.mark.parametrize("status", ["400 No", "401 No", "403 No", "404 No", "409 No", "413 No", "429 No"])
async def test_u24_refusals_are_answers_and_leave_the_door_open(stream: bool, status: str) -> None:
    async with played_sai(whole("no", status=status)) as sai, watched_proxy(sai, SAI_COOKIE="") as proxy:
        for number in range(FAILURES + 2):
            assert (await proxy.ask(stream=stream, key=f"key-{number}")).status == int(status[:3])
        assert len(sai.calls) == FAILURES + 2


async def test_u24_a_broken_template_does_not_close_the_others(stream: bool) -> None:
    async def by_template(call: Call) -> None:
        await call.send(BROKEN if b"/broken/" in call.head else HELLO)

    async with played_sai(by_template) as sai, watched_proxy(sai, SAI_MODELS="sai-model,other=broken") as proxy:
        for _ in range(FAILURES):
            await proxy.ask(model="other")
        assert (await proxy.ask(model="other", stream=stream)).code == "upstream_unavailable"
        assert (await proxy.ask(stream=stream)).text == "hello"


LIMITED = "429 Too Many Requests"


def limiting(*limited: str, retry_after: str = "") -> Behaviour:
    """These keys and cookies have used up what SAI allows."""
    headers = [f"Retry-After: {retry_after}"] if retry_after else []

    async def behave(call: Call) -> None:
        over = (call.key or call.cookie) in limited
        await call.send(whole("Template usage limit exceeded.", *headers, status=LIMITED) if over else HELLO)

    return behave


async def test_u24_a_resting_credential_is_not_asked_with(stream: bool) -> None:
    async with played_sai(limiting(SYSTEM_KEY, retry_after="120")) as sai, watched_proxy(sai) as proxy:
        assert await ask_often(proxy, 10, at_once=1, stream=stream) == [200] * 10
        assert sai.keys == [SYSTEM_KEY] + [SYSTEM_COOKIE] * 10
        assert {line["credential"] for line in proxy.requests} == {"system_cookie"}


async def test_u24_anothers_key_does_not_rest_with_it(stream: bool) -> None:
    async with played_sai(limiting(SYSTEM_KEY)) as sai, watched_proxy(sai) as proxy:
        await proxy.ask(stream=stream)
        assert (await proxy.ask(stream=stream, key=USER_KEY)).text == "hello"
        assert sai.keys == [SYSTEM_KEY, SYSTEM_COOKIE, USER_KEY]


async def test_u24_if_all_rest_429_is_answered_at_once(stream: bool) -> None:
    async with (
        played_sai(limiting(SYSTEM_KEY, SYSTEM_COOKIE, retry_after="60")) as sai,
        watched_proxy(sai, MAX_RETRIES="3") as proxy,
    ):
        await proxy.ask(stream=stream)
        for _ in range(10):
            outcome = await proxy.ask(stream=stream)
            assert (outcome.status, outcome.code) == (429, "rate_limit_exceeded")
            assert 50 <= int(outcome.headers["Retry-After"]) <= 66
        assert sai.keys == [SYSTEM_KEY, SYSTEM_COOKIE]
        assert max(line["duration_s"] for line in proxy.requests[1:]) < 1


async def test_u24_a_client_that_waits_as_long_as_it_is_told_is_asked_for() -> None:
    """A Retry-After of 0 is told as a second, and SAI has room again after that."""
    limited = True

    async def behave(call: Call) -> None:
        await call.send(whole("limit", "Retry-After: 0", status=LIMITED) if limited else HELLO)

    async with played_sai(behave) as sai, watched_proxy(sai, SAI_COOKIE="") as proxy:
        told = int((await proxy.ask()).headers["Retry-After"])
        assert told == 1
        limited = False
        await asyncio.sleep(told * 1.2)
        assert (await proxy.ask()).status == 200
        assert len(sai.calls) == 2


async def test_u24_after_the_rest_one_probe_finds_out_for_all(stream: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sai_proxy.sai_api.rests.DEFAULT_REST_S", 0.3)
    probed, going_on = asyncio.Event(), asyncio.Event()

    async def behave(call: Call) -> None:
        if call.number == 1:
            await call.send(whole("limit", status=LIMITED))
            return
        if call.key and not going_on.is_set():
            probed.set()
            await going_on.wait()
        await call.send(HELLO)

    async with played_sai(behave) as sai, watched_proxy(sai) as proxy:
        await proxy.ask(stream=stream)
        probing = await first_probe(proxy, probed.is_set, stream=stream)
        assert await ask_often(proxy, 10, at_once=10, stream=stream) == [200] * 10
        assert sai.keys.count(SYSTEM_KEY) == 2, "the others go on with the cookie"
        going_on.set()
        assert (await probing).text == "hello"
        before = len(sai.calls)
        await proxy.ask(stream=stream)
        assert sai.keys[before:] == [SYSTEM_KEY]


async def test_u24_a_probe_that_is_limited_again_lets_the_credential_rest_again(
    stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sai_proxy.sai_api.rests.DEFAULT_REST_S", 0.3)
    async with played_sai(limiting(SYSTEM_KEY)) as sai, watched_proxy(sai) as proxy:
        while sai.keys.count(SYSTEM_KEY) < 2:
            await proxy.ask(stream=stream)
            await asyncio.sleep(0.02)
        assert await ask_often(proxy, 10, at_once=10, stream=stream) == [200] * 10
        assert sai.keys.count(SYSTEM_KEY) == 2


async def test_u24_failures_in_mid_answer_do_not_touch_answers_that_run(stream: bool) -> None:
    """Others' answers go on while SAI breaks one after the other."""
    going_on = asyncio.Event()

    async def behave(call: Call) -> None:
        if call.number > 1:
            call.reset()
            return
        await call.send(head("Content-Length: 9") + b"Once ")
        await going_on.wait()
        await call.send(b"upon")

    async with played_sai(behave) as sai, watched_proxy(sai) as proxy:
        first = asyncio.ensure_future(proxy.ask(stream=stream))
        await until(lambda: sai.calls)
        assert set(await ask_often(proxy, 20, at_once=5, stream=stream)) == {502, 503}
        going_on.set()
        assert (await first).text == "Once upon"
