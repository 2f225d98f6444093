"""What a hostile client, or a hostile SAI, can make a process of its own pay. How long the loop was blocked is
recorded in the report (`--junit-xml`) and held to a generous bound, since other processes slow it, too."""

from collections.abc import Callable

import pytest

from tests.faults.arena import Attack, measure
from tests.faults.attacks import ATTACKS

MOST_MIB = 250
LONGEST_MS = 1_500


def marked(attack: Attack) -> object:
    return pytest.param(attack, id=attack.name)


@pytest.mark.parametrize("attack", [marked(attack) for attack in ATTACKS if not attack.heavy])
async def test_an_attack_is_borne(attack: Attack, record_property: Callable[[str, object], None]) -> None:
    cost = await measure(attack)
    record_property("answer", cost.answer)
    record_property("peak_mib", round(cost.peak_mib))
    record_property("longest_blocked_loop_ms", round(cost.longest_ms))
    assert cost.healthy
    assert cost.peak_mib < MOST_MIB
    assert cost.longest_ms < LONGEST_MS
    assert attack.expected in cost.answer
