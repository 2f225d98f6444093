"""How much memory a replica takes: `python -m benchmarks.memory` prints the handbook's table.

Reads the resident set from Linux' /proc. Each row is a process of its own, so that none inherits
what another has left behind.
"""

import asyncio
import json
import re
from collections.abc import Mapping
from pathlib import Path

import aiohttp
import uvloop

from sai_proxy.simulator import Simulator, simulator
from tests.support import chat, environment, running_process

MIB = 1024 * 1024
STREAM = "[[pieces=20]][[delay=0.2]]"


async def peak_mib(
    sai: Simulator, count: int, text: str, *, stream: bool, env: Mapping[str, str], at_once: int = 1000
) -> tuple[float, int]:
    """The highest resident set of a server while `count` requests ran, `at_once` at a time, and how
    many of them were answered with 200."""
    body = json.dumps(chat(text, stream=stream), ensure_ascii=False).encode()
    async with (
        running_process(environment(sai.url, **env)) as process,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=at_once)) as session,
    ):

        async def ask() -> bool:
            async with session.post(f"{process.proxy.url}/v1/chat/completions", data=body) as response:
                await response.read()
                return response.status == 200

        good = sum(await asyncio.gather(*(ask() for _ in range(count))))
        return highest_mib(process.pid), good


def highest_mib(pid: int) -> float:
    (kib,) = re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(kib) / 1024


async def main() -> None:
    unlimited = {"CONTEXT_LIMIT_TOKENS": "100000000"}
    ascii_text, wide_text = "x" * (15 * MIB), "x" * (15 * MIB) + "😀"
    async with simulator(recording=False) as sai:
        for name, count, text, stream in (
            ("idle", 1, "hi", False),
            ("100 streams at once", 100, STREAM, True),
            ("500 streams at once", 500, STREAM, True),
            ("500 requests of 60 KiB at once", 500, "[[silence=2]]" + "x" * 60 * 1024, False),
            ("20 requests of 15 MiB at once", 20, ascii_text, False),
            ("the same, with one emoji each", 20, wide_text, False),
        ):
            peak, good = await peak_mib(sai, count, text, stream=stream, env=unlimited)
            print(f"{name:32} {peak:4.0f} MiB   ({good} of {count} answered with 200)")
        peak, _ = await peak_mib(sai, 60, ascii_text, stream=False, env={"CONTEXT_LIMIT_TOKENS": "1"}, at_once=1)
        print(f"{'60 refusals of 15 MiB in turn':32} {peak:4.0f} MiB")


if __name__ == "__main__":
    uvloop.run(main())
