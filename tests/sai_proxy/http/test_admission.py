import pytest

from sai_proxy.errors import ServerBusy, TooManyAtOnce
from sai_proxy.http.admission import LARGE_SHARE, SMALL_BYTES, Admission

LIMIT = 16 * SMALL_BYTES
FOR_LARGE = int(LIMIT * LARGE_SHARE)


def admission(max_requests: int = 100, max_per_key: int | None = None) -> Admission:
    return Admission(max_requests=max_requests, max_bytes=LIMIT, max_per_key=max_per_key)


def test_bytes_are_shared_and_given_back() -> None:
    shared = admission()
    first, second = shared.enter(), shared.enter()
    first.grow(FOR_LARGE - 100)
    second.grow(100)
    with pytest.raises(ServerBusy):
        first.grow(1)
    assert shared.held == FOR_LARGE, "what was refused is not held"
    first.settle(10)
    assert shared.held == 110
    first.close()
    second.close()
    assert (shared.held, shared.requests) == (0, 0)


def test_ordinary_requests_get_in_when_large_ones_have_their_share() -> None:
    shared = admission()
    shared.enter().grow(FOR_LARGE)
    with pytest.raises(ServerBusy):
        shared.enter().grow(SMALL_BYTES + 1)
    shared.enter().grow(SMALL_BYTES)


def test_many_small_ones_are_bounded_too() -> None:
    shared = admission()
    for _ in range(LIMIT // SMALL_BYTES):
        shared.enter().grow(SMALL_BYTES)
    with pytest.raises(ServerBusy):
        shared.enter().grow(1)


def test_one_request_alone_may_hold_more_than_there_is() -> None:
    shared = admission()
    alone = shared.enter()
    alone.grow(2 * LIMIT)
    alone.grow(LIMIT)
    with pytest.raises(ServerBusy):
        shared.enter().grow(1)


def test_a_request_weighs_as_much_as_it_has_choices() -> None:
    shared = admission(max_requests=10)
    first, second = shared.enter(), shared.enter()
    first.weigh(9)
    with pytest.raises(ServerBusy):
        shared.enter()
    with pytest.raises(ServerBusy):
        second.weigh(2)
    first.close()
    second.weigh(10)
    assert shared.requests == 10


def test_one_key_cannot_take_all() -> None:
    shared = admission(max_per_key=2)
    holdings = [shared.enter() for _ in range(3)]
    holdings[0].name("a")
    holdings[1].name("a")
    with pytest.raises(TooManyAtOnce):
        holdings[2].name("a")
    holdings[2].name("b")
    for holding in holdings:
        holding.close()
    assert not shared.by_key, "nothing is kept of keys that ask nothing"


def test_nothing_is_let_in_when_memory_is_short() -> None:
    shared = admission()
    shared.under_pressure = True
    with pytest.raises(ServerBusy):
        shared.enter()
    assert shared.refused["memory"] == 1


def test_closing_twice_gives_back_once() -> None:
    shared = admission()
    holding = shared.enter()
    holding.grow(5)
    holding.close()
    holding.close()
    assert (shared.held, shared.requests) == (0, 0)
