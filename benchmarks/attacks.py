"""What attacks cost a replica: `python -m benchmarks.attacks` prints a table, with words of names as arguments
that of the attacks which have one of them in theirs."""

import sys

import uvloop

from tests.faults.arena import measure
from tests.faults.attacks import ATTACKS


async def main(words: list[str]) -> None:
    print(f"{'attack':56} {'answer':34} {'peak MiB':>8} {'longest blocked loop, ms':>8}")
    for attack in ATTACKS:
        if words and not any(word in attack.name for word in words):
            continue
        cost = await measure(attack)
        health = "" if cost.healthy else "   NOT HEALTHY AFTERWARDS"
        print(f"{attack.name:56} {cost.answer:34} {cost.peak_mib:8.0f} {cost.longest_ms:8.0f}{health}", flush=True)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1:]))
