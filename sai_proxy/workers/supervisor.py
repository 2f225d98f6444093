"""The parent of several workers: it starts them, starts another where one falls, and passes signals on.

It reads no request. All workers listen on one port, among which the kernel deals the connections out (SO_REUSEPORT).
"""

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from collections.abc import Callable, Sequence

from sai_proxy.store.memory import MemoryBlobs
from sai_proxy.workers.hub import Hub, Worker
from sai_proxy.workers.messages import ENDS_AT_ONCE

logger = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.5
MAX_PAUSE_S = 30.0
LIVED_S = 10.0
"""A worker that has lived for so long is started again at once; one that falls sooner, after a pause."""


SILENT_S = 10.0
"""A worker says each second what it has counted. One that says nothing for so long hangs, and is ended."""

WATCH_S = 1.0
GRACE_S = 5.0
"""Over the time that a worker's answers have to end; after it a worker is ended that does not end by itself."""

AT_ONCE_S = 1.0


class WorkerFault(Exception):
    """A worker ended before it listened, and has said why."""


class Supervisor:
    """command: what starts a worker; its number and its end of a pair of sockets are added to it. stop_s: what its
    answers have to end."""

    def __init__(self, count: int, command: Sequence[str], blobs: MemoryBlobs, *, stop_s: float) -> None:
        self._count = count
        self._stop_s = stop_s
        self._command = command
        self._hub = Hub(blobs)
        self._running: dict[int, asyncio.subprocess.Process] = {}
        self._stopping = asyncio.Event()

    async def run(self, announce: Callable[[], None]) -> None:
        """Until a signal has ended all workers. announce: called once, when all of them listen. Raises WorkerFault."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._pass_on)
        ready = [asyncio.Event() for _ in range(self._count)]
        keeping = [asyncio.ensure_future(self._keep(number, ready[number])) for number in range(self._count)]
        try:
            all_ready = asyncio.ensure_future(_all_set(ready))
            await asyncio.wait({all_ready, *keeping}, return_when=asyncio.FIRST_COMPLETED)
            if all_ready.done():
                announce()
            else:
                all_ready.cancel()
            await asyncio.gather(*keeping)
        finally:
            self._stopping.set()
            for process in self._running.values():
                process.terminate()
            await asyncio.gather(*keeping, return_exceptions=True)
            await asyncio.gather(*(process.wait() for process in self._running.values()))

    def _pass_on(self) -> None:
        """The first signal lets answers end; the second ends them, as of one process."""
        passed = ENDS_AT_ONCE if self._stopping.is_set() else signal.SIGTERM
        limit_s = AT_ONCE_S if self._stopping.is_set() else self._stop_s + GRACE_S
        self._stopping.set()
        for process in self._running.values():
            process.send_signal(passed)
        asyncio.get_running_loop().call_later(limit_s, self._end)

    def _end(self) -> None:
        """Whoever has not ended does not listen."""
        for number, process in self._running.items():
            logger.error("a worker did not end, it is killed", extra={"worker": number + 1})
            process.kill()

    async def _keep(self, number: int, ready: asyncio.Event) -> None:
        """One worker after the other, until they are to stop."""
        loop = asyncio.get_running_loop()
        pause_s = FIRST_PAUSE_S
        while not self._stopping.is_set():
            started = loop.time()
            code = await self._run_one(number, ready)
            if self._stopping.is_set():
                return
            if not ready.is_set():
                raise WorkerFault
            lived_s = loop.time() - started
            pause_s = FIRST_PAUSE_S if lived_s >= LIVED_S else min(2 * pause_s, MAX_PAUSE_S)
            told = {"worker": number + 1, "exit_code": code, "lived_s": round(lived_s, 1)}
            logger.error("a worker has fallen, another is started", extra=told)
            if lived_s < LIVED_S:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), pause_s)

    async def _run_one(self, number: int, ready: asyncio.Event) -> int:
        """Its exit code."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                *("--worker", str(number + 1), "--parent", str(theirs.fileno())),
                pass_fds=[theirs.fileno()],
                process_group=0,  # a terminal's Ctrl-C is for the parent alone
            )
        self._running[number] = process
        if self._stopping.is_set():
            process.terminate()
        reader, writer = await asyncio.open_connection(sock=ours)
        worker = Worker(writer, ready)
        serving = asyncio.ensure_future(self._hub.serve(worker, reader))
        watching = asyncio.ensure_future(_watch(worker, process, number))
        try:
            return await process.wait()
        finally:
            watching.cancel()
            del self._running[number]
            await serving


async def _watch(worker: Worker, process: asyncio.subprocess.Process, number: int) -> None:
    """End a worker that hangs: the kernel goes on giving it connections."""
    loop = asyncio.get_running_loop()
    await worker.ready.wait()
    while True:
        looked = loop.time()
        await asyncio.sleep(WATCH_S)
        if loop.time() - looked > 2 * WATCH_S:  # this process was stopped itself, and has heard nobody
            worker.heard = loop.time()
        if loop.time() - worker.heard > SILENT_S:
            logger.error("a worker hangs, it is killed", extra={"worker": number + 1, "silent_s": SILENT_S})
            process.kill()
            return


async def _all_set(events: Sequence[asyncio.Event]) -> None:
    for event in events:
        await event.wait()


def worker_command(arguments: Sequence[str]) -> list[str]:
    """What starts this program again with the same arguments."""
    return [sys.executable, "-m", "sai_proxy", *arguments]
