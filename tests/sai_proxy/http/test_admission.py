import pytest

from sai_proxy.errors import ServerBusy
from sai_proxy.http.admission import FREE_BYTES, BodyBudget


def test_the_beginning_of_a_body_is_free() -> None:
    budget = BodyBudget(1)
    for _ in range(100):
        budget.account().grow_to(FREE_BYTES)
    assert budget.held == 0


def test_bodies_share_what_is_theirs() -> None:
    budget = BodyBudget(100)
    first, second = budget.account(), budget.account()
    first.grow_to(FREE_BYTES + 60)
    second.grow_to(FREE_BYTES + 40)
    with pytest.raises(ServerBusy):
        second.grow_to(FREE_BYTES + 41)
    assert budget.held == 100, "what was refused is not held"
    first.settle(FREE_BYTES + 59)
    second.settle(FREE_BYTES + 41)
    with pytest.raises(ServerBusy):
        first.settle(FREE_BYTES + 60)
    first.close()
    second.close()
    assert budget.held == 0


def test_one_body_alone_may_be_longer() -> None:
    budget = BodyBudget(100)
    account = budget.account()
    account.grow_to(FREE_BYTES + 200)
    account.grow_to(FREE_BYTES + 300)
    with pytest.raises(ServerBusy):
        budget.account().grow_to(FREE_BYTES + 1)
