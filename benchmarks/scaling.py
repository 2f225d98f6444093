"""How many times as much several processes serve as one: `python -m benchmarks.scaling`, half a minute.

SAI and the load need a core as well, so each process is limited to the same share of its core, by the kernel's control
groups: what is left is the load's. Linux, as root, with the `cpu` controller of version 1.
"""

import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import uvloop

from benchmarks.bench import in_turns, ratio_of
from benchmarks.load import Rate, missing_programs, question, wrk
from benchmarks.servers import CORES, LOAD_CORE, SERVER_CORE, Server, nginx, proxy

GROUPS = Path("/sys/fs/cgroup/cpu")
PERIOD_US = 10_000
SHARE = 0.3
"""Of a core, for each process."""

ROUNDS = 7
SECONDS = 2.0
CONNECTIONS = 32
"""Of each process."""


@contextmanager
def limited(pid: int, core: int) -> Iterator[None]:
    """A process, with all of its threads, on one core and to its share of it, while the context lasts."""
    group = GROUPS / f"sai-proxy-{pid}"
    group.mkdir()
    try:
        (group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
        (group / "cpu.cfs_quota_us").write_text(str(int(PERIOD_US * SHARE)))
        for thread in Path(f"/proc/{pid}/task").iterdir():
            (group / "tasks").write_text(thread.name)
            os.sched_setaffinity(int(thread.name), {core})
        yield
    finally:
        for number in (group / "tasks").read_text().split():  # those that began meanwhile, too
            (GROUPS / "tasks").write_text(number)
        group.rmdir()


def children_of(pid: int) -> list[int]:
    """Its workers."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def scaling(cores: Sequence[int]) -> str:
    """The ratio of rates, with its spread. cores: two."""
    os.sched_setaffinity(0, {LOAD_CORE})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with (
            nginx(folder) as sai,
            proxy(sai.url, folder, cores) as one,
            proxy(sai.url, folder, cores, WORKERS=str(len(cores))) as several,
        ):

            async def measure(server: Server) -> Rate:
                count = CONNECTIONS * (len(cores) if server is several else 1)
                return await wrk(server, question(), count, SECONDS, folder)

            first, second = children_of(several.pid)[:2]
            with limited(one.pid, SERVER_CORE), limited(first, cores[0]), limited(second, cores[1]):
                alone, together = await in_turns((one, several), measure, ROUNDS)
    ratio = ratio_of([both.per_s / one.per_s for one, both in zip(alone, together, strict=True)])
    return f"{len(cores)} processes serve {ratio} times as much as one, each with {SHARE:.0%} of a core"


if __name__ == "__main__":
    if missing := missing_programs():
        sys.exit(f"not installed: {', '.join(missing)} (Debian: apt-get install nginx-light wrk)")
    if not os.access(GROUPS / "tasks", os.W_OK) or len(CORES) < 2:
        sys.exit(f"needs two cores, and to be allowed to write to {GROUPS}")
    print(uvloop.run(scaling(tuple(CORES)[:2])))
