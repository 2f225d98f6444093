from unittest.mock import Mock

import aiohttp
import pytest

from sai_proxy.sai_api.retries import BUDGET_RESERVE, BUDGET_SHARE, MAX_BACKOFF_S, Retries, RetryBudget

REFUSED = aiohttp.ClientConnectorError(Mock(), OSError(111, "refused"))
CLOSED = aiohttp.ServerDisconnectedError()


def retries(most: int = 3, time_left: float = 900, budget: RetryBudget | None = None) -> Retries:
    return Retries(budget or RetryBudget(), most=most, statuses=frozenset({503}), time_left=lambda: time_left)


def test_the_back_off_grows_jitters_and_is_bounded() -> None:
    def waits() -> list[float]:
        policy = retries(most=9)
        return [wait for _ in range(9) if (wait := policy.after_failure(REFUSED, stale=False)) is not None]

    first, second = waits(), waits()
    assert len(first) == 9
    assert first != second
    assert 0.2 < first[0] < 1
    assert first[3] > first[0]
    assert max(first + second) <= MAX_BACKOFF_S + 1
    assert first[-1] > MAX_BACKOFF_S / 2


@pytest.mark.parametrize(
    "exc",
    [
        CLOSED,
        aiohttp.ClientOSError(104, "reset"),
        aiohttp.ServerTimeoutError(),
        aiohttp.ClientPayloadError(),
        TimeoutError(),
        aiohttp.ClientConnectorCertificateError(Mock(), ValueError()),
        aiohttp.ClientConnectorSSLError(Mock(), OSError()),
    ],
    ids=lambda exc: type(exc).__name__,
)
def test_what_may_have_reached_sai_is_not_asked_again(exc: Exception) -> None:
    assert retries().after_failure(exc, stale=False) is None


@pytest.mark.parametrize("exc", [REFUSED, aiohttp.ConnectionTimeoutError()], ids=lambda exc: type(exc).__name__)
def test_what_cannot_have_reached_sai_is_asked_again(exc: Exception) -> None:
    assert retries().after_failure(exc, stale=False) is not None
    assert retries(most=0).after_failure(exc, stale=False) is None


def test_a_stale_connection_is_replaced_once_and_at_once() -> None:
    policy = retries(most=0)
    assert policy.after_failure(CLOSED, stale=True) == 0
    assert policy.after_failure(CLOSED, stale=True) is None


@pytest.mark.parametrize(
    ("status", "wish", "wait"), [(503, 2, 2.0), (503, 5, 5.0), (503, 6, None), (504, None, None), (500, 1, None)]
)
def test_a_status_is_asked_again_if_it_is_named_and_the_wait_is_short(
    status: int, wish: int | None, wait: float | None
) -> None:
    assert retries().after_status(status, wish) == wait


def test_a_wait_that_the_deadline_would_cut_is_not_begun() -> None:
    assert retries(time_left=2).after_status(503, 3) is None


def test_an_outage_adds_a_share_of_its_requests_and_no_more() -> None:
    budget = RetryBudget()
    made = 0
    for _ in range(1_000):
        budget.deposit()
        policy = retries(budget=budget)
        while policy.after_status(503, None) is not None:
            made += 1
    assert made <= 1_000 * BUDGET_SHARE + BUDGET_RESERVE
    assert made >= 1_000 * BUDGET_SHARE
