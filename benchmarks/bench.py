"""How fast the proxy is beside a bare aiohttp relay: `make bench`, some ten minutes.

Both stand in front of the same SAI and are asked in turns, A B A B, so that what counts is their ratio in one run and
not this machine's mood. Each has a core to itself, SAI and the load have the other one: what the log's thread costs
counts, too. Ratios are medians with their spread; of rates and CPU time 1 would be as fast as the relay.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import uvloop

from benchmarks.load import Rate, missing_programs, question, streams, wrk
from benchmarks.relay import PATH
from benchmarks.servers import CORES, LOAD_CORE, SERVER_CORE, Server, nginx, proxy, relay, streaming_sai

ROUNDS = 5
SECONDS = 2.0
CONNECTIONS = (1, 32, 128)
STREAMS = ((1, 0.0), (100, 0.0), (50, 0.02))
"""Pieces, and seconds between two of them."""

STREAMS_AT_ONCE = (1, 32, 200, 1_000)
OPEN_STREAMS = ((1_000, 4), (5_000, 12))
"""And in how many seconds they are all open."""

BODY_BYTES = (1_000, 10_000, 100_000, 1_000_000, 4_000_000, 16_000_000)
MESSAGES = (1, 10, 100, 1_000, 10_000)
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": f"tool_{number}",
            "description": "Does what its name says.",
            "parameters": {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}},
        },
    }
    for number in range(10)
]


class Ratio(NamedTuple):
    """A median, and the smallest and largest of its rounds."""

    median: float
    least: float
    most: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.least:.2f} to {self.most:.2f})"


def ratio_of(values: Sequence[float]) -> Ratio:
    return Ratio(statistics.median(values), min(values), max(values))


def median_of(rates: Sequence[Any], name: str) -> float:
    return float(statistics.median(getattr(rate, name) for rate in rates))


class Report:
    """Tables as they come, in Markdown, and their figures."""

    def __init__(self) -> None:
        self.figures: dict[str, Any] = {}

    def table(self, title: str, *columns: str) -> None:
        print(f"\n## {title}\n\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)

    def row(self, *cells: object) -> None:
        print(f"| {' | '.join(map(str, cells))} |", flush=True)


async def in_turns(
    servers: Sequence[Server], measure: Callable[[Server], Awaitable[Any]], rounds: int
) -> list[list[Any]]:
    """What each round of each server gave."""
    found: list[list[Any]] = [[] for _ in servers]
    for _ in range(rounds):
        for server, results in zip(servers, found, strict=True):
            results.append(await measure(server))
    return found


async def rates(report: Report, bare: Server, ours: Server, folder: Path, rounds: int, seconds: float) -> None:
    """Requests per second, latency and CPU time."""
    report.table(
        "Requests",
        *("answers", "connections", "relay/s", "proxy/s", "ratio", "ratio of CPU time"),
        *("p50 ms", "added ms", "p99 ms", "added ms"),
    )
    kinds: list[tuple[str, str, bytes, Sequence[int]]] = [
        ("whole", PATH, question(), CONNECTIONS),
        ("streamed", PATH, question(stream=True), CONNECTIONS),
        ("whole, ten tools offered", PATH, question(tools=TOOLS), (32,)),
        ("Responses, whole", "/v1/responses", question(path="/v1/responses"), (32,)),
        ("Responses, streamed", "/v1/responses", question(path="/v1/responses", stream=True), (32,)),
    ]
    plain = {False: question(), True: question(stream=True)}
    for name, path, body, connections in kinds:
        for count in connections:

            async def measure(server: Server, count: int = count, body: bytes = body, path: str = path) -> Rate:
                if server.name == "relay":  # which knows one kind of question
                    return await wrk(server, plain[b'"stream": true' in body], count, seconds, folder)
                return await wrk(server, body, count, seconds, folder, path=path)

            relayed, proxied = await in_turns((bare, ours), measure, rounds)
            per_s = ratio_of([b.per_s / a.per_s for a, b in zip(relayed, proxied, strict=True)])
            cpu = ratio_of([a.cpu_s / b.cpu_s for a, b in zip(relayed, proxied, strict=True)])
            p50, p99 = median_of(proxied, "p50_s"), median_of(proxied, "p99_s")
            report.row(
                *(name, count, f"{median_of(relayed, 'per_s'):.0f}", f"{median_of(proxied, 'per_s'):.0f}", per_s, cpu),
                *(f"{p50 * 1e3:.2f}", f"{(p50 - median_of(relayed, 'p50_s')) * 1e3:.2f}"),
                *(f"{p99 * 1e3:.2f}", f"{(p99 - median_of(relayed, 'p99_s')) * 1e3:.2f}"),
            )
            report.figures[f"{name}, {count}"] = {"rate": per_s, "cpu": cpu}


async def pieces(report: Report, bare: Server, ours: Server, rounds: int, seconds: float) -> None:
    """How long a piece is on its way, from SAI's sending it to the client's having it."""
    report.table(
        "Streams: a piece's way from SAI to the client",
        *(
            "pieces",
            "apart ms",
            "at once",
            "relay p50 ms",
            "proxy p50 ms",
            "relay p99 ms",
            "proxy p99 ms",
            "ratio of CPU",
        ),
    )
    for count, pause_s in STREAMS:
        for at_once in STREAMS_AT_ONCE:

            async def measure(
                server: Server, count: int = count, pause_s: float = pause_s, at_once: int = at_once
            ) -> Any:
                return await streams(server, count, pause_s, at_once, seconds)

            relayed, proxied = await in_turns((bare, ours), measure, rounds)
            cpu = ratio_of([a.cpu_s / b.cpu_s for a, b in zip(relayed, proxied, strict=True)])
            shown = [
                f"{median_of(results, name) * 1e3:.2f}" for name in ("p50_s", "p99_s") for results in (relayed, proxied)
            ]
            report.row(count, f"{pause_s * 1e3:.0f}", at_once, *shown, cpu)
            report.figures[f"{count} pieces {pause_s * 1e3:.0f} ms apart, {at_once}"] = {"cpu": cpu}


async def memory(report: Report, bare: Server, ours: Server) -> None:
    """Of each, when it has served some thousands; and what streams take that wait for SAI: of memory while they do, and
    of CPU time in all."""
    report.table("Memory", "", "in all MiB", "streams open", "KiB each", "CPU time each, ms")
    for server in (bare, ours):
        await streams(server, 1, 0.0, 32, 2)
        before = server.rss_bytes()
        for count, seconds in OPEN_STREAMS:
            asking = asyncio.ensure_future(streams(server, 2, seconds + 2.0, count, 0.1))
            await asyncio.sleep(seconds)
            each = (server.rss_bytes() - before) / count
            cpu_s = (await asking).cpu_s
            report.row(server.name, f"{before / 2**20:.0f}", count, f"{each / 1024:.1f}", f"{cpu_s * 1e3:.2f}")
            report.figures[f"memory, {server.name}, {count}"] = {"bytes": before, "stream": each}


async def growth(report: Report, bare: Server, ours: Server, folder: Path, seconds: float) -> None:
    """What a request costs as it grows, of CPU time."""
    report.table("Growth: CPU time of one request, ms", "", "relay", "proxy", "added")
    long = [(f"{size} bytes", question("x" * size)) for size in BODY_BYTES]
    turns = [{"role": ("user", "assistant")[number % 2], "content": "word " * 8} for number in range(max(MESSAGES) + 1)]
    many = [
        (f"{count} messages", json.dumps({"model": "sai-model", "messages": turns[:count]}).encode())
        for count in MESSAGES
    ]
    for name, body in (*long, *many):
        costs = [(await wrk(server, body, 1, seconds, folder)).cpu_s * 1e3 for server in (bare, ours)]
        report.row(name, *(f"{cost:.2f}" for cost in costs), f"{costs[1] - costs[0]:.2f}")


async def starts(report: Report, sai: Server, folder: Path, rounds: int) -> None:
    """From the start of a process to its first answer."""
    report.table("Start", "", "seconds")
    for name, start in (("relay", relay), ("proxy", proxy)):
        found = []
        for _ in range(rounds):
            running = start(sai.url) if start is relay else proxy(sai.url, folder)
            async with running as server:
                found.append(server.start_s)
        report.row(name, ratio_of(found))
        report.figures[f"start, {name}"] = ratio_of(found)


async def workers(report: Report, sai: Server, folder: Path, rounds: int, seconds: float) -> None:
    """Whether a request costs more where several processes serve the port. (Their rate cannot be told where SAI and the
    load need a core of their own.)"""
    async with (
        proxy(sai.url, folder) as one,
        proxy(sai.url, folder, CORES, WORKERS=str(len(CORES))) as all_cores,
    ):

        async def measure(server: Server) -> Rate:
            return await wrk(server, question(), 32, seconds, folder)

        alone, together = await in_turns((one, all_cores), measure, rounds)
        cpu = ratio_of([one.cpu_s / both.cpu_s for one, both in zip(alone, together, strict=True)])
        report.table(f"{len(CORES)} processes", "CPU time of one request, of one process / of them all")
        report.row(cpu)


async def bench(*, rounds: int = ROUNDS, seconds: float = SECONDS, only: str = "") -> Report:
    """All of it, or one of its tables."""
    os.sched_setaffinity(0, {LOAD_CORE})
    report = Report()
    # Everything is on but what would end the long requests: they are measured, too.
    large = {"CONTEXT_LIMIT_TOKENS": "100000000", "MAX_BUFFERED_BYTES": str(2**30)}
    many = {"MAX_CONCURRENT_REQUESTS": "10000", "MAX_CONNECTIONS": "10000"}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with nginx(folder) as sai, streaming_sai() as stream:
            async with relay(sai.url) as bare, proxy(sai.url, folder, SERVER_CORE, **large) as ours:
                if only in ("", "rates"):
                    await rates(report, bare, ours, folder, rounds, seconds)
                if only in ("", "growth"):
                    await growth(report, bare, ours, folder, seconds)
            async with relay(stream.url) as bare, proxy(stream.url, folder) as ours:
                if only in ("", "pieces"):
                    await pieces(report, bare, ours, max(rounds - 2, 1), seconds)
            async with relay(stream.url) as bare, proxy(stream.url, folder, SERVER_CORE, **many) as ours:
                if only in ("", "memory"):
                    await memory(report, bare, ours)
            if only in ("", "starts"):
                await starts(report, sai, folder, rounds)
            if only in ("", "workers") and len(CORES) > 1:
                await workers(report, sai, folder, rounds, seconds)
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each round")
    parser.add_argument("--only", default="", help="rates, growth, pieces, memory, starts or workers")
    parser.add_argument("--save", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    if missing := missing_programs():
        sys.exit(f"not installed: {', '.join(missing)} (Debian: apt-get install nginx-light wrk)")
    report = uvloop.run(bench(rounds=options.rounds, seconds=options.seconds, only=options.only))
    if options.save:
        options.save.write_text(json.dumps(report.figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
