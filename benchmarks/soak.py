"""What remains of mixed traffic: `python -m benchmarks.soak --minutes 10` (or `make soak MINUTES=10`).

Every request has to be accounted for exactly once: as its client saw it, in its log line, and in the metrics;
and every attempt that a log line tells of is a call that the simulator received. What the process holds has to
be what it held before. Ends with status 1, and says why, if anything does not add up.
"""

import argparse
import asyncio
import itertools
import json
import logging
import statistics
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import uvloop
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.traffic import KINDS, Calls, Clients, Outcome
from sai_proxy.simulator import simulator
from tests.support import Process, environment, free_port, running_process, until

RATE = 40.0
MAX_AT_ONCE = 300
MAX_GROWTH_MIB_A_MINUTE = 1.0
MAX_KEPT_MIB = 16.0
"""Above what the process held when it was warm."""

ROUND_S = 10
"""In which each kind of client comes more than once."""

JUDGED_FROM_S = 600.0
DRAIN_S = 30.0
SETTINGS = {
    "MAX_RETRIES": "1",
    "REQUEST_TIMEOUT": "4",
    "WRITE_TIMEOUT": "3",
    "CONTEXT_LIMIT_TOKENS": "2000",
    "HEARTBEAT_SECONDS": "1",
}
GAUGES = ("requests_in_flight", "streams_in_flight", "held_bytes")
MIB = 2**20


@dataclass
class Report:
    """faults: what does not add up. slope: MiB a minute that the resident set grew over the second half."""

    lines: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    slope: float = 0.0

    def compare(self, what: str, *found: object) -> None:
        """All of `found` should be the same."""
        same = len(set(found)) == 1
        self.add(what, *found, good=same)

    def add(self, what: str, *found: object, good: bool) -> None:
        self.lines.append(f"{what:44}" + "".join(f"{value!s:>12}" for value in found) + ("" if good else "   <- !"))
        if not good:
            self.faults.append(f"{what}: {', '.join(map(str, found))}")


@dataclass
class LogReader:
    """What the process' log lines say, as they come."""

    clients: Clients
    attempts: int = 0
    refused: int = 0
    unforeseen: list[str] = field(default_factory=list)
    _read: int = 0

    async def follow(self, log: list[str]) -> None:
        while True:
            self.read(log)
            await asyncio.sleep(0.05)

    def read(self, log: list[str]) -> None:
        for line in itertools.islice(log, self._read, None):
            self._take(json.loads(line))
        self._read = len(log)

    def _take(self, line: dict[str, Any]) -> None:
        if line["message"] == "request":
            self.attempts += line["attempts"]
            self.clients.logged[line["request_id"]].append(Outcome(line["status"], line.get("error", "none")))
        elif line["message"] == "refused before any layer":
            self.refused += 1
        elif line["level"] == "ERROR":
            self.unforeseen.append(line["message"])


def resident_mib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / MIB


def open_sockets(pid: int) -> int:
    count = 0
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            count += str(entry.readlink()).startswith("socket:")
    return count


async def watch_memory(pid: int, samples: list[tuple[float, float]]) -> None:
    """Pairs of minutes and MiB, one a second."""
    now = asyncio.get_running_loop().time
    started = now()
    while True:
        samples.append(((now() - started) / 60, resident_mib(pid)))
        await asyncio.sleep(1)


async def load(clients: Clients, duration_s: float, rate: float) -> None:
    """Clients of all kinds, one after the other, at a steady rate; returns when the last one has its answer."""
    loop = asyncio.get_running_loop()
    room = asyncio.Semaphore(MAX_AT_ONCE)
    started = loop.time()

    async def visit(kind: str) -> None:
        try:
            await KINDS[kind](clients)
        except (aiohttp.ClientError, ConnectionError, TimeoutError, asyncio.IncompleteReadError) as exc:
            print(f"a client of the kind '{kind}' failed: {exc!r}", file=sys.stderr)
        finally:
            room.release()

    async with asyncio.TaskGroup() as tasks:
        for number, kind in zip(itertools.count(), _in_turns(), strict=False):
            await asyncio.sleep(max(started + number / rate - loop.time(), 0))
            if loop.time() - started >= duration_s:
                return
            await room.acquire()
            clients.by_kind[kind] += 1
            tasks.create_task(visit(kind))


def _in_turns() -> Iterator[str]:
    """Each kind in each round, but the costly ones in every fourth."""
    for round_ in itertools.count():
        for kind in KINDS:
            if round_ % 4 == 0 or not kind.startswith("stops reading"):
                yield kind


def requests_counted(metrics: str) -> Counter[Outcome]:
    """`sai_proxy_requests_total` by outcome, but for the scrapes themselves."""
    counted: Counter[Outcome] = Counter()
    for name, labels, value in _samples(metrics):
        if name == "sai_proxy_requests_total" and labels["route"] != "/metrics":
            counted[Outcome(int(labels["status"]), labels["code"])] += int(value)
    return counted


def _samples(metrics: str) -> Iterator[tuple[str, dict[str, str], float]]:
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples:
            yield sample.name, sample.labels, sample.value


async def soak(duration_s: float, rate: float = RATE) -> Report:
    """Start all that is needed, let the clients come, and see what adds up."""
    report = Report()
    port = free_port()
    samples: list[tuple[float, float]] = []
    async with running_process(environment(f"http://127.0.0.1:{port}", **SETTINGS)) as process:
        sockets_before = open_sockets(process.pid)
        async with (
            simulator(port=port) as sai,
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
        ):
            sai.calls = calls = Calls()
            clients = Clients(int(process.proxy.url.rsplit(":", 1)[1]), session, calls)
            log = LogReader(clients)
            background = [
                asyncio.create_task(log.follow(process.log)),
                asyncio.create_task(watch_memory(process.pid, samples)),
            ]
            await load(clients, duration_s, rate)
            with suppress(TimeoutError):
                await until(lambda: clients.logged.keys() == clients.asked.keys(), DRAIN_S)
            metrics = (await process.proxy.get("/metrics")).text
            _account(report, clients, log, metrics, calls.received)
            for task in background:
                task.cancel()
        await _compare_what_is_held(report, process, sockets_before, samples, duration_s)
    return report


def _account(report: Report, clients: Clients, log: LogReader, metrics: str, calls: int) -> None:
    asked, counted = Counter(clients.asked.values()), requests_counted(metrics)
    logged = Counter(outcome for outcomes in clients.logged.values() for outcome in outcomes)
    report.lines.append(f"{'requests by outcome':44}{'asked':>12}{'logged':>12}{'counted':>12}")
    for outcome in sorted({*asked, *logged, *counted}):
        report.compare(f"  {outcome.status} {outcome.code}", asked[outcome], logged[outcome], counted[outcome])
    report.compare("  in all", asked.total(), logged.total(), counted.total())
    for name in sorted({*clients.asked, *clients.logged}):
        of_client, of_log = clients.asked.get(name), clients.logged.get(name, [])
        if [of_client] != of_log:
            report.faults.append(f"{name}: its client saw {of_client}, its log lines say {of_log}")
    report.compare("no HTTP: refused by the client's count / logged", clients.malformed, log.refused)
    report.compare("clients of that kind", clients.by_kind["no HTTP"], clients.malformed)
    report.compare("attempts logged / calls received", log.attempts, calls)
    report.compare("errors in the log, unforeseen", len(log.unforeseen), 0)
    report.compare("answers with status 500", logged[Outcome(500, "server_error")] + asked[Outcome(500)], 0)
    for name, _, value in _samples(metrics):
        if name.removeprefix("sai_proxy_") in GAUGES:
            report.compare(f"{name} afterwards", int(value), 0)


async def _compare_what_is_held(
    report: Report, process: Process, sockets_before: int, samples: list[tuple[float, float]], duration_s: float
) -> None:
    """After the simulator has gone, and with it the connections that are kept to it."""
    await process.proxy.session.close()
    with suppress(TimeoutError):
        await until(lambda: open_sockets(process.pid) == sockets_before, DRAIN_S)
    report.compare("sockets before / after", sockets_before, open_sockets(process.pid))
    judged = duration_s >= JUDGED_FROM_S
    resting = at_rest(samples)
    warm = resting[len(resting) // 4][1]
    after = resident_mib(process.pid)
    report.add(
        "MiB when warm / afterwards", f"{warm:.1f}", f"{after:.1f}", good=not judged or after - warm < MAX_KEPT_MIB
    )
    second_half = resting[len(resting) // 2 :]
    if len(second_half) > 1:
        report.slope = statistics.linear_regression(*zip(*second_half, strict=True)).slope
    report.add(
        "MiB a minute over the second half" + ("" if judged else " (not judged)"),
        f"{report.slope:+.2f}",
        good=not judged or report.slope < MAX_GROWTH_MIB_A_MINUTE,
    )


def at_rest(samples: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The lowest sample of each ROUND_S: what remains, without the long answers that are just held."""
    return [min(samples[at : at + ROUND_S], key=lambda sample: sample[1]) for at in range(0, len(samples), ROUND_S)]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--rate", type=float, default=RATE, help="requests a second")
    options = parser.parse_args()
    logging.getLogger("aiohttp.server").disabled = True  # the simulator's, of what it breaks on request
    report = uvloop.run(soak(options.minutes * 60, options.rate))
    print("\n".join(report.lines))
    for fault in report.faults[:50]:
        print(f"does not add up: {fault}")
    print("does not add up" if report.faults else "everything adds up")
    return 1 if report.faults else 0


if __name__ == "__main__":
    sys.exit(main())
