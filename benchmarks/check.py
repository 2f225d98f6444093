"""A guard against getting slower: `make bench-check`, a minute.

CPU time of one request beside the bare relay's, in turns in one run. It fails below what FLOORS says: some less than
what was measured last, since machines differ. Raise them with the speed.
"""

import os
import sys
import tempfile
from pathlib import Path

import uvloop

from benchmarks.bench import in_turns, ratio_of
from benchmarks.load import Rate, missing_programs, question, wrk
from benchmarks.servers import LOAD_CORE, Server, nginx, proxy, relay

ROUNDS = 7
SECONDS = 2.0
CONNECTIONS = 32
FLOORS = {"whole": 0.65, "streamed": 0.65}
"""The relay's CPU time / the proxy's."""


async def check() -> list[str]:
    """What has become too slow, a line each."""
    os.sched_setaffinity(0, {LOAD_CORE})
    faults = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with nginx(folder) as sai, relay(sai.url) as bare, proxy(sai.url, folder) as ours:
            for kind, floor in FLOORS.items():
                body = question(stream=kind == "streamed")

                async def measure(server: Server, body: bytes = body) -> Rate:
                    return await wrk(server, body, CONNECTIONS, SECONDS, folder)

                relayed, proxied = await in_turns((bare, ours), measure, ROUNDS)
                ratio = ratio_of([bare.cpu_s / ours.cpu_s for bare, ours in zip(relayed, proxied, strict=True)])
                print(f"{kind}: {ratio}, at least {floor}")
                if ratio.median < floor:
                    faults.append(f"{kind}: {ratio.median:.2f} of the relay's speed, below {floor}")
    return faults


if __name__ == "__main__":
    if missing := missing_programs():
        sys.exit(f"not installed: {', '.join(missing)} (Debian: apt-get install nginx-light wrk)")
    if found := uvloop.run(check()):
        sys.exit("\n".join(found))
