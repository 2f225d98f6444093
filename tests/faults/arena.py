"""Attacks on the proxy, each against a process of its own, and what they cost it: its highest memory, and the
longest time in which its loop did nothing else. Linux only."""

import asyncio
import re
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tests.faults.hostile_sai import MIB, Answer, HostileSai, hostile_sai, says
from tests.support import ROOT, environment, running_process, until

KIB = 1024
CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
MAX_BODY = 16 * MIB
ANSWER_TIMEOUT_S = 60
QUIET_S = 0.4
"""Nothing more happens if nothing has for so long."""

OK = says(b"All is well.")
WIDE_CONTEXT = {"CONTEXT_LIMIT_TOKENS": "100000000"}
GUARDED = {"ACCESS_TOKENS": "token-of-the-guarded-server"}


@dataclass
class Target:
    """The proxy that is attacked, and the SAI behind it."""

    port: int
    pid: int
    sai: HostileSai
    _held: list[socket.socket] = field(default_factory=list)

    async def send(self, data: bytes) -> str:
        """The status that raw bytes are answered with: `cut` for none, `silent` for none in time."""
        writer: asyncio.StreamWriter | None = None
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.write(data)
                line = await reader.readline()
                while await reader.read(MIB):
                    pass
                return line.split()[1].decode() if line else "cut"
        except TimeoutError:
            return "silent"
        except ConnectionError:
            return "cut"
        finally:
            if writer is not None:
                writer.transport.abort()

    async def post(self, body: bytes, path: str = CHAT, *headers: str) -> str:
        """The status that a body is answered with."""
        return await self.send(request(body, path, *headers))

    async def post_all(self, bodies: Iterable[bytes], path: str = CHAT) -> str:
        """The statuses of bodies sent at once. Ends when all are answered, or SAI is silent to the rest."""
        tasks = [asyncio.ensure_future(self.post(body, path)) for body in bodies]
        await self.quiet(lambda: sum(task.done() for task in tasks))
        statuses = Counter(task.result() if task.done() else "waiting" for task in tasks)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        return shown(statuses)

    async def hold(self, data: bytes, count: int, *, receive_buffer: int | None = None) -> str:
        """Send the same on so many connections that never read, and return how many are still open when
        nothing more happens."""
        gate = asyncio.Semaphore(64)
        held: list[socket.socket] = []

        async def open_one() -> None:
            async with gate:
                held.append(await self._connect(data, receive_buffer))

        tasks = [asyncio.ensure_future(open_one()) for _ in range(count)]
        await self.quiet(lambda: len(held))
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled() and (fault := task.exception()) and not isinstance(fault, ConnectionError):
                raise fault
        statuses = Counter(map(state_of, held))
        statuses["cut"] += count - len(held)
        for sock in held:
            sock.close()
        return shown(statuses)

    async def _connect(self, data: bytes, receive_buffer: int | None) -> socket.socket:
        loop, sock = asyncio.get_running_loop(), socket.socket()
        try:
            sock.setblocking(False)
            if receive_buffer is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            await loop.sock_connect(sock, ("127.0.0.1", self.port))
            await loop.sock_sendall(sock, data)
        except BaseException:
            sock.close()
            raise
        return sock

    async def quiet(self, progress: Callable[[], object]) -> None:
        """Returns when neither `progress` nor SAI nor the proxy's memory moves any more."""
        loop = asyncio.get_running_loop()
        last, since = None, loop.time()

        def still() -> bool:
            nonlocal last, since
            now = (progress(), self.sai.calls, self.sai.sent, resident_kib(self.pid) // KIB)
            if now != last:
                last, since = now, loop.time()
            return loop.time() - since > QUIET_S

        await until(still, ANSWER_TIMEOUT_S)


def request(body: bytes, path: str = CHAT, *headers: str) -> bytes:
    """A request that ends its connection."""
    return post_head(len(body), path, "Connection: close", *headers) + body


def post_head(length: int, path: str = CHAT, *headers: str) -> bytes:
    lines = (f"POST {path} HTTP/1.1", "Host: x", "Content-Type: application/json", f"Content-Length: {length}")
    return "\r\n".join((*lines, *headers, "", "")).encode()


def state_of(sock: socket.socket) -> str:
    """What a connection that nobody has read has come to."""
    try:
        received = sock.recv(64, socket.MSG_PEEK)
    except BlockingIOError:
        return "waiting"
    except ConnectionError:
        return "cut"
    return received.split()[1].decode() if received else "cut"


def shown(statuses: Mapping[str, int]) -> str:
    """Statuses with their counts, such as `200 x3, 503 x5`."""
    return ", ".join(f"{status} x{count}" for status, count in sorted(statuses.items()) if count)


def status_line(pid: int, name: str) -> int:
    """A line of /proc's status, in KiB."""
    (kib,) = re.findall(rf"{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(kib)


def resident_kib(pid: int) -> int:
    return status_line(pid, "VmRSS")


Run = Callable[[Target], Awaitable[str]]


@dataclass
class Attack:
    """env: what the proxy is configured with beside the defaults. sai_reads: whether SAI reads what it is asked.
    heavy: whether it takes too long, or too much, for the suite. expected: the
    answer that is right, where others would be wrong."""

    name: str
    run: Run
    sai: Answer = OK
    env: Mapping[str, str] = field(default_factory=dict)
    sai_reads: bool = True
    heavy: bool = False
    expected: str = ""


class Cost(NamedTuple):
    """What an attack was answered, and what it took. healthy: whether an ordinary request is answered after it."""

    answer: str
    peak_mib: float
    longest_ms: float
    healthy: bool


async def measure(attack: Attack) -> Cost:
    """One attack, on a process of its own."""
    async with (
        hostile_sai(attack.sai, reads=attack.sai_reads) as sai,
        running_process(environment(sai.url, **attack.env)) as process,
        polled(int(process.proxy.url.rsplit(":", 1)[1])) as longest,
    ):
        target = Target(int(process.proxy.url.rsplit(":", 1)[1]), process.pid, sai)
        answer = await attack.run(target)
        longest_s = await longest()
        health = await target.send(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        return Cost(answer, status_line(process.pid, "VmHWM") / KIB, longest_s * 1000, health == "200")


@asynccontextmanager
async def polled(port: int) -> AsyncIterator[Callable[[], Awaitable[float]]]:
    """A server's liveness is asked while the context lasts, or until the longest round trip is asked for."""
    poller = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.faults.poller", str(port)),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert poller.stdin is not None
    assert poller.stdout is not None
    stdin, stdout = poller.stdin, poller.stdout

    async def longest() -> float:
        stdin.close()
        return float(await stdout.readline() or "inf")

    try:
        await stdout.readline()
        yield longest
    finally:
        if poller.returncode is None:
            poller.kill()
        await poller.wait()


# What is sent


def filled(unit: bytes, size: int = MAX_BODY, *, before: bytes, after: bytes, between: bytes = b",") -> bytes:
    """`unit` as often as fits into `size` bytes between `before` and `after`."""
    count = (size - len(before) - len(after)) // (len(unit) + len(between))
    return before + between.join([unit] * count) + after


MODEL = b'{"model":"sai-model",'
MESSAGES = b'"messages":[{"role":"user","content":"Hello"}]'
EMPTY_MESSAGE = b'{"role":"user","content":""}'


def with_field(name: bytes, value: bytes) -> bytes:
    """An ordinary question with one field more."""
    return MODEL + MESSAGES + b',"' + name + b'":' + value + b"}"


def bomb(unit: bytes, size: int = MAX_BODY - 200) -> bytes:
    """An array of so many bytes."""
    return filled(unit, size, before=b"[", after=b"]")


def empty_messages(size: int, more: bytes = b"") -> bytes:
    return filled(EMPTY_MESSAGE, size, before=MODEL + more + b'"messages":[', after=b"]}")


def chat(text: bytes, more: bytes = b"") -> bytes:
    return MODEL + more + b'"messages":[{"role":"user","content":"' + text + b'"}]}'


NESTED = b"[" * 100_000 + b"]" * 100_000


def posts(body: Callable[[], bytes], path: str = CHAT, *headers: str) -> Run:
    """One request."""

    async def run(target: Target) -> str:
        return await target.post(body(), path, *headers)

    return run


def posts_at_once(body: Callable[[], bytes], count: int, path: str = CHAT) -> Run:
    async def run(target: Target) -> str:
        return await target.post_all([body()] * count, path)

    return run


def posts_in_turn(bodies: Callable[[], Sequence[bytes]], times: int = 1, path: str = CHAT) -> Run:
    async def run(target: Target) -> str:
        made = bodies()
        return shown(Counter([await target.post(body, path) for _ in range(times) for body in made]))

    return run


def holds(data: Callable[[], bytes], count: int, *, receive_buffer: int | None = None) -> Run:
    async def run(target: Target) -> str:
        return await target.hold(data(), count, receive_buffer=receive_buffer)

    return run
