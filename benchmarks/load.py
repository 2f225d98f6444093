"""Load for a server: rates and latencies by wrk, and streams by a small client that looks at each piece."""

import asyncio
import json
import re
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, cast

from benchmarks.relay import PATH
from benchmarks.servers import LOAD_CORE, Server

_SENT = re.compile(rb"@(\d{20})@")
_TAIL_BYTES = 32


class Rate(NamedTuple):
    """What one server did in one round. Latencies in seconds; cpu_s: of the server, for one request."""

    per_s: float
    p50_s: float
    p99_s: float
    cpu_s: float
    failed: int = 0


def missing_programs() -> list[str]:
    """What must be installed first."""
    return [name for name in ("nginx", "wrk") if shutil.which(name) is None]


def question(text: str = "Hello", *, stream: bool = False, path: str = PATH, **fields: object) -> bytes:
    """A request's body."""
    if path.endswith("responses"):
        return json.dumps({"model": "sai-model", "input": text, "stream": stream, **fields}).encode()
    messages = [{"role": "user", "content": text}]
    return json.dumps({"model": "sai-model", "stream": stream, "messages": messages, **fields}).encode()


_WRK_SCRIPT = """\
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
%s
wrk.body = [==[%s]==]
done = function(summary, latency, requests)
  local errors = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.status
    + summary.errors.timeout
  io.write(string.format("RESULT %%d %%d %%d %%d %%d\\n", summary.requests, summary.duration, errors,
    latency:percentile(50), latency:percentile(99)))
end
"""


async def wrk(
    server: Server,
    body: bytes,
    connections: int,
    seconds: float,
    folder: Path,
    *,
    path: str = PATH,
    headers: Mapping[str, str] | None = None,
    strict: bool = True,
) -> Rate:
    """As many requests as can be in `seconds`. Raises RuntimeError if one of them failed, unless that is no matter."""
    script = folder / "wrk.lua"
    more = "\n".join(f'wrk.headers["{name}"] = "{value}"' for name, value in (headers or {}).items())
    script.write_text(_WRK_SCRIPT % (more, body.decode()))
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "-s", str(script), server.url + path]
    cpu = server.cpu_s()
    running = await asyncio.create_subprocess_exec(
        *("taskset", "-c", str(LOAD_CORE)), *command, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await running.communicate()
    cpu = server.cpu_s() - cpu
    found = re.search(rb"RESULT (\d+) (\d+) (\d+) (\d+) (\d+)", output)
    if found is None:
        raise RuntimeError(f"wrk said: {output.decode()}")
    requests, duration_us, errors, p50_us, p99_us = map(int, found.groups())
    if (errors and strict) or not requests:
        raise RuntimeError(f"{server.name}: {errors} of {requests} requests failed")
    return Rate(requests / duration_us * 1e6, p50_us / 1e6, p99_us / 1e6, cpu / requests, errors)


class _StreamClient(asyncio.Protocol):
    """One connection, which asks again and again."""

    def __init__(self, request: bytes, deadline: float, delays: list[int]) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.answers = 0
        self._request = request
        self._deadline = deadline
        self._delays = delays
        self._tail = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        seen = self._tail + data
        end = 0
        for found in _SENT.finditer(seen):
            self._delays.append(now - int(found[1]))
            end = found.end()
        self._tail = seen[max(end, len(seen) - _TAIL_BYTES) :]
        if not seen.endswith(b"0\r\n\r\n"):
            return
        self.answers += 1
        self._tail = b""
        assert self._transport is not None
        if time.monotonic() < self._deadline:
            self._transport.write(self._request)
        else:
            self._transport.close()
            if not self.done.done():
                self.done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or ConnectionError("the server hung up"))


class Streams(NamedTuple):
    """What one server did with streams. Delays: of a piece, from SAI's sending it to the client's having it."""

    answers: int
    per_s: float
    p50_s: float
    p99_s: float
    cpu_s: float


async def streams(
    server: Server, pieces: int, pause_s: float, connections: int, seconds: float, *, path: str = PATH, **fields: object
) -> Streams:
    """So many streams at once, each followed by another for `seconds`."""
    body = question(f"[[pieces={pieces}]][[pause={pause_s:g}]]", stream=True, path=path, **fields)
    request = (
        f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body
    delays: list[int] = []
    loop, started, cpu = asyncio.get_running_loop(), time.monotonic(), server.cpu_s()
    clients = [_StreamClient(request, started + seconds, delays) for _ in range(connections)]
    for client in clients:
        await loop.create_connection(lambda client=client: client, "127.0.0.1", server.port)  # type: ignore[misc]
    await asyncio.gather(*(client.done for client in clients))
    answers, delays = sum(client.answers for client in clients), sorted(delays)
    return Streams(
        answers,
        answers / (time.monotonic() - started),
        delays[len(delays) // 2] / 1e9,
        delays[len(delays) * 99 // 100] / 1e9,
        (server.cpu_s() - cpu) / answers,
    )
