"""The processes that are measured and those they need, each on its own core as far as there are two.

A server shares its core with nobody: what its threads cost counts too. SAI and the load have the other one.
"""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import aiohttp

from benchmarks.sai import nginx_config
from tests.support import ROOT, environment, free_port

CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE, LOAD_CORE = CORES[0], CORES[-1]
START_TIMEOUT_S = 30


class Server(NamedTuple):
    """A process that is measured. start_s: from its start to its first answer."""

    name: str
    url: str
    pid: int
    start_s: float

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    def cpu_s(self) -> float:
        """CPU time so far of the process and its children, all threads, from Linux' scheduler."""
        return sum(_cpu_of(pid) for pid in (self.pid, *_children(self.pid)))

    def rss_bytes(self) -> int:
        """Memory in use, of the process and its children."""
        return sum(_rss_of(pid) for pid in (self.pid, *_children(self.pid)))


def _cpu_of(pid: int) -> float:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def _rss_of(pid: int) -> int:
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@asynccontextmanager
async def process(
    command: Sequence[str],
    core: int | Sequence[int],
    variables: Mapping[str, str] | None = None,
    log: Path | None = None,
) -> AsyncIterator[int]:
    """Its id, while it runs pinned to `core`."""
    cores = {core} if isinstance(core, int) else set(core)
    output = log.open("wb") if log else asyncio.subprocess.DEVNULL
    running = await asyncio.create_subprocess_exec(
        *command,
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **(variables or {})},
        stdout=output,
        stderr=output,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    try:
        yield running.pid
    finally:
        if running.returncode is None:
            running.terminate()
        try:
            await asyncio.wait_for(running.wait(), 10)
        except TimeoutError:
            running.kill()
            await running.wait()


async def _answering(url: str, pid: int, patience_s: float) -> None:
    """Returns when it answers something."""
    process_folder = Path(f"/proc/{pid}")
    async with asyncio.timeout(patience_s), aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(url):
                    return
            except (aiohttp.ClientConnectionError, OSError):
                if not process_folder.exists():  # noqa: ASYNC240
                    raise RuntimeError(f"the server at {url} has ended") from None
                await asyncio.sleep(0.005)


@asynccontextmanager
async def started(
    name: str,
    command: Sequence[str],
    port: int,
    core: int | Sequence[int],
    *,
    variables: Mapping[str, str] | None = None,
    log: Path | None = None,
    patience_s: float = START_TIMEOUT_S,
) -> AsyncIterator[Server]:
    """A server that answers, while it runs pinned to `core`."""
    begun = time.perf_counter()
    url = f"http://127.0.0.1:{port}"
    async with process(command, core, variables, log) as pid:
        await _answering(url + "/health/liveness", pid, patience_s)
        yield Server(name, url, pid, time.perf_counter() - begun)


@asynccontextmanager
async def nginx(folder: Path, what: str | None = None, core: int | Sequence[int] = LOAD_CORE) -> AsyncIterator[Server]:
    """As SAI, with one answer for everything."""
    port = free_port()
    command = ["nginx", "-p", str(folder), "-c", str(nginx_config(folder, port, what))]
    async with started("nginx", command, port, core) as running:
        yield running


@asynccontextmanager
async def streaming_sai() -> AsyncIterator[Server]:
    """As SAI, that streams what its question says."""
    port = free_port()
    async with started("SAI", [sys.executable, "-m", "benchmarks.sai", str(port)], port, LOAD_CORE) as running:
        yield running


@asynccontextmanager
async def relay(sai_url: str, core: int | Sequence[int] = SERVER_CORE) -> AsyncIterator[Server]:
    """The bare relay."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.relay", str(port), sai_url]
    async with started("relay", command, port, core) as running:
        yield running


@asynccontextmanager
async def proxy(
    sai_url: str, folder: Path, core: int | Sequence[int] = SERVER_CORE, **changes: str
) -> AsyncIterator[Server]:
    """This proxy with everything on. Its log goes to a file, as a container's does."""
    port = free_port()
    variables = environment(sai_url, PORT=str(port), MAX_RETRIES="2", **changes)
    command = [sys.executable, "-m", "sai_proxy", "serve"]
    async with started("proxy", command, port, core, variables=variables, log=folder / f"{port}.log") as running:
        yield running
