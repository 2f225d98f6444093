"""More than this server can do at once: what it can do is done, and the rest is told so at once."""

import asyncio
from collections import Counter

import pytest

from sai_proxy.simulator import Simulator
from tests.conftest import StartProxy
from tests.faults.raw_client import admission_of, all_given_back, check_no_alarm, lines_of
from tests.support import Answer, Proxy, check_schema, until


def check_busy(answer: Answer, status: int = 503, code: str = "server_busy") -> None:
    """It is a refusal that says when to come again."""
    assert (answer.status, answer.error["code"]) == (status, code)
    assert (answer.headers["Retry-After"], answer.headers["retry-after-ms"]) == ("2", "2000")
    assert "x-should-retry" not in answer.headers, "SDKs may try again"
    assert answer.headers["x-request-id"]
    check_schema("error", answer.json)


async def ask_until_released(
    sai: Simulator, proxy: Proxy, count: int, headers: dict[str, str] | None = None, *, n: int = 1
) -> "list[asyncio.Task[Answer]]":
    """So many requests, which SAI does not answer."""
    calls = len(sai.calls)
    asking = [asyncio.ensure_future(proxy.ask("[[silence=forever]]", headers=headers, n=n)) for _ in range(count)]
    await until(lambda: len(sai.calls) == calls + count * n)
    return asking


async def release(proxy: Proxy, asking: "list[asyncio.Task[Answer]]") -> None:
    for request in asking:
        request.cancel()
    await asyncio.gather(*asking, return_exceptions=True)
    await all_given_back(proxy)


async def test_what_is_too_much_is_refused_at_once_while_health_answers(
    sai: Simulator, start_proxy: StartProxy, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    proxy = await start_proxy(MAX_CONCURRENT_REQUESTS="5")
    running = await ask_until_released(sai, proxy, 5)
    refused = await asyncio.gather(*(proxy.ask(stream=bool(number % 2)) for number in range(50)))
    for answer in refused:
        check_busy(answer)
    assert len(sai.calls) == 5
    for path in ("/health", "/health/liveness", "/health/readiness", "/v1/models", "/metrics"):
        assert (await proxy.get(path)).status == 200
    metrics = (await proxy.get("/metrics")).text
    assert "sai_proxy_requests_in_flight 5.0" in metrics
    lines = lines_of(caplog)  # the metrics have had all of them made
    durations = sorted(line["duration_s"] for line in lines if line["status"] == 503)
    assert len(durations) == 50
    assert durations[25] < 0.5, "seconds: nothing was waited for"
    await release(proxy, running)
    assert (await proxy.ask()).status == 200
    check_no_alarm(caplog)


async def test_what_can_be_done_is_done_under_ten_times_as_much(
    sai: Simulator, start_proxy: StartProxy, caplog: pytest.LogCaptureFixture
) -> None:
    """Forty clients ask again and again where four can be served, each answer taking SAI 0.1 s."""
    caplog.set_level("INFO")
    proxy = await start_proxy(MAX_CONCURRENT_REQUESTS="4")
    loop = asyncio.get_running_loop()
    end = loop.time() + 1.5
    statuses: Counter[int] = Counter()

    async def client() -> None:
        while loop.time() < end:
            answer = await proxy.ask("[[silence=0.1]]")
            statuses[answer.status] += 1
            if answer.status == 503:
                check_busy(answer)
                await asyncio.sleep(0.05)  # sooner than it was told

    async def probe() -> None:
        while loop.time() < end:
            assert (await proxy.get("/health/liveness")).status == 200
            await asyncio.sleep(0.05)

    await asyncio.gather(probe(), *(client() for _ in range(40)))
    assert set(statuses) == {200, 503}
    assert statuses[503] > statuses[200]
    assert statuses[200] > 4 * 1.5 / 0.1 / 3, "a third, on a slow machine; in peace it is nine tenths"
    assert statuses[200] == len(sai.calls), "SAI was asked nothing that was thrown away"
    await all_given_back(proxy)
    assert (await proxy.ask()).status == 200
    check_no_alarm(caplog)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_a_request_weighs_as_much_as_it_has_choices(
    sai: Simulator, start_proxy: StartProxy, stream: bool
) -> None:
    proxy = await start_proxy(MAX_CONCURRENT_REQUESTS="4")
    running = await ask_until_released(sai, proxy, 1, n=3)
    assert admission_of(proxy).requests == 3
    check_busy(await proxy.ask(n=2, stream=stream))
    assert admission_of(proxy).requests == 3, "nothing of the refused one is left"
    assert (await proxy.ask(stream=stream)).status == 200
    await release(proxy, running)
    assert (await proxy.ask(n=4, stream=stream)).status == 200
    await all_given_back(proxy)


async def test_a_request_that_is_alone_is_let_in_whatever_it_weighs(start_proxy: StartProxy) -> None:
    """It could never be answered otherwise, however often it is tried again."""
    proxy = await start_proxy(MAX_CONCURRENT_REQUESTS="4")
    assert (await proxy.ask(n=8)).status == 200


@pytest.mark.parametrize("name", ["Authorization", "x-api-key", "user_api_key", "x-user-api-key"])
async def test_one_key_cannot_take_what_others_need(sai: Simulator, start_proxy: StartProxy, name: str) -> None:
    proxy = await start_proxy(MAX_CONCURRENT_PER_KEY="2")

    def key(value: str) -> dict[str, str]:
        return {name: f"Bearer {value}" if name == "Authorization" else value}

    running = await ask_until_released(sai, proxy, 2, key("greedy"))
    for answer in await asyncio.gather(*(proxy.ask(headers=key("greedy")) for _ in range(10))):
        check_busy(answer, 429, "too_many_concurrent_requests")
        assert "greedy" not in answer.text
    other_place = "x-api-key" if name != "x-api-key" else "x-user-api-key"
    check_busy(await proxy.ask(headers={other_place: "greedy"}), 429, "too_many_concurrent_requests")
    assert (await proxy.ask(headers=key("modest"))).status == 200
    assert (await proxy.ask()).status == 200, "nor who has none"
    assert not any("greedy" in holder for holder in admission_of(proxy).by_key)
    await release(proxy, running)
    assert (await proxy.ask(headers=key("greedy"))).status == 200
    await all_given_back(proxy)


async def test_those_without_a_key_count_by_their_address(sai: Simulator, start_proxy: StartProxy) -> None:
    proxy = await start_proxy(MAX_CONCURRENT_PER_KEY="2")
    running = await ask_until_released(sai, proxy, 2)
    check_busy(await proxy.ask(headers={"x-api-key": "raspberry"}), 429, "too_many_concurrent_requests")
    assert (await proxy.ask(headers={"x-api-key": "mine"})).status == 200
    await release(proxy, running)


async def test_everything_is_free_after_a_load_of_every_kind(
    sai: Simulator, start_proxy: StartProxy, caplog: pytest.LogCaptureFixture
) -> None:
    """Answers, refusals, failures, timeouts and clients that leave, all at once and past every limit."""
    caplog.set_level("INFO")
    proxy = await start_proxy(
        MAX_CONCURRENT_REQUESTS="20", MAX_CONCURRENT_PER_KEY="8", REQUEST_TIMEOUT="1", MAX_BUFFERED_BYTES="2000000"
    )
    questions = (
        "[[silence=0.02]]",
        "[[status=400]]",
        "[[pieces=4]][[delay=0.02]]",
        "[[pieces=4]][[reset=middle]]",
        "[[silence=forever]]",
        "[[chars=300000]]",
        "x" * 200_000,
    )

    async def load(number: int) -> int:
        question = questions[number % len(questions)]
        asking = proxy.ask(
            question, headers={"x-api-key": f"k{number % 5}"}, stream=number % 3 == 0, n=1 + number % 4 // 3
        )
        try:
            return (await asyncio.wait_for(asking, 0.2 if number % 11 == 0 else 20)).status
        except TimeoutError:
            return 499

    statuses = Counter(await asyncio.gather(*map(load, range(300))))
    assert set(statuses) <= {200, 400, 429, 499, 502, 503, 504}
    assert statuses[200]
    assert statuses[503]
    await all_given_back(proxy)
    assert admission_of(proxy).requests == 0
    assert "sai_proxy_requests_in_flight 0.0" in (await proxy.get("/metrics")).text
    assert (await proxy.get("/health/readiness")).status == 200
