"""How fast the proxy is beside a bare aiohttp relay: `python -m benchmarks.overhead`.

Both stand in front of the same simulator and are asked in turns in one run, so that what counts is
their ratio, not this machine's mood: of answers a second, and of CPU time an answer, which says the
same with less noise. The relay reads a request, posts a fixed body to SAI with aiohttp's client, and
returns the text, whole or piece by piece; it parses, checks and logs nothing.
"""

import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import uvloop
from aiohttp import web

from sai_proxy.simulator import simulator
from tests.support import ROOT, chat, environment, free_port, running_process

ROUNDS = 7
REQUESTS = 1000
CONCURRENCY = 32
PIECES = 50
WHOLE, STREAMED = "hi", f"[[chars={PIECES * 8}]][[pieces={PIECES}]]"


def relay(sai_url: str, port: int) -> None:
    """The bare relay, as a process of its own. It streams if the request's text says so."""

    def body(text: str) -> dict[str, Any]:
        message = {"content": text, "role": "user", "id": 1}
        return {"inputs": {"system": "", "user": text}, "chatMessages": [message]}

    async def run() -> None:
        session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        url = f"{sai_url}/api/templates/t/execute"

        async def answer(request: web.Request) -> web.StreamResponse:
            streamed = b'"stream": true' in await request.read()
            payload = body(STREAMED if streamed else WHOLE)
            async with session.post(url, json=payload, headers={"X-Api-Key": "k"}) as response:
                if not streamed:
                    return web.Response(body=await response.read(), content_type="application/json")
                stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
                await stream.prepare(request)
                async for piece in response.content.iter_any():
                    await stream.write(b"data: " + piece + b"\n\n")
                return stream

        app = web.Application()
        app.router.add_post("/v1/chat/completions", answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        await asyncio.Event().wait()

    uvloop.run(run())


class Server(NamedTuple):
    """A process that is measured."""

    url: str
    pid: int

    def cpu_s(self) -> float:
        """CPU time so far, of user and system, from Linux' /proc."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Measured(NamedTuple):
    """What one server did in one round."""

    answers_per_s: float
    cpu_us: float


@asynccontextmanager
async def running_relay(sai_url: str) -> AsyncIterator[Server]:
    """The relay, while it runs."""
    port = free_port()
    code = f"from benchmarks.overhead import relay; relay({sai_url!r}, {port})"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, cwd=ROOT)
    try:
        async with aiohttp.ClientSession() as session:

            async def up() -> bool:
                try:
                    async with session.get(f"http://127.0.0.1:{port}/"):
                        return True
                except aiohttp.ClientConnectionError:
                    return False

            while not await up():
                await asyncio.sleep(0.05)
        yield Server(f"http://127.0.0.1:{port}", process.pid)
    finally:
        process.terminate()
        await process.wait()


async def measure(session: aiohttp.ClientSession, server: Server, text: str) -> Measured:
    """REQUESTS asked CONCURRENCY at a time."""
    body = json.dumps(chat(text, stream=text == STREAMED)).encode()
    left = iter(range(REQUESTS))

    async def worker() -> None:
        for _ in left:
            async with session.post(f"{server.url}/v1/chat/completions", data=body) as response:
                await response.read()
                assert response.status == 200

    started, cpu = time.perf_counter(), server.cpu_s()
    await asyncio.gather(*(worker() for _ in range(CONCURRENCY)))
    return Measured(REQUESTS / (time.perf_counter() - started), (server.cpu_s() - cpu) / REQUESTS * 1e6)


async def compare(session: aiohttp.ClientSession, bare: Server, ours: Server, text: str) -> None:
    """Print each round, and the medians of the ratios: 1 would be as fast as the relay."""
    rates, costs = [], []
    for _ in range(ROUNDS):
        relayed, proxied = [await measure(session, server, text) for server in (bare, ours)]
        rates.append(proxied.answers_per_s / relayed.answers_per_s)
        costs.append(relayed.cpu_us / proxied.cpu_us)
        print(
            f"bare aiohttp {relayed.answers_per_s:5.0f}/s {relayed.cpu_us:5.0f} us CPU   "
            f"sai-proxy {proxied.answers_per_s:5.0f}/s {proxied.cpu_us:5.0f} us CPU   "
            f"ratio {rates[-1]:.2f}, of CPU {costs[-1]:.2f}"
        )
    print(f"median ratio {statistics.median(rates):.2f}, of CPU {statistics.median(costs):.2f}")


async def main() -> None:
    """Both kinds of answers."""
    async with (
        simulator(recording=False) as sai,
        running_relay(sai.url) as bare,
        running_process(environment(sai.url)) as process,
        aiohttp.ClientSession() as session,
    ):
        ours = Server(process.proxy.url, process.pid)
        for name, text in (("whole", WHOLE), (f"streamed in {PIECES} pieces", STREAMED)):
            print(f"answers {name}")
            await compare(session, bare, ours, text)


if __name__ == "__main__":
    uvloop.run(main())
