"""How fast the proxy is beside a bare aiohttp relay: `python -m benchmarks.overhead`.

Both stand in front of the same simulator and are asked in turns in one run, so that what counts is
their ratio, not this machine's mood. The relay reads a request, posts a fixed body to SAI with
aiohttp's client, and returns the text; it parses, checks and logs nothing.
"""

import asyncio
import json
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import uvloop
from aiohttp import web

from sai_proxy.simulator import simulator
from tests.support import ROOT, chat, environment, free_port, running_process

ROUNDS = 5
REQUESTS = 1000
CONCURRENCY = 32
PAYLOAD = {"inputs": {"system": "", "user": "hi"}, "chatMessages": [{"content": "hi", "role": "user", "id": 1}]}


def relay(sai_url: str, port: int) -> None:
    """The bare relay, as a process of its own."""

    async def run() -> None:
        session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))

        async def answer(request: web.Request) -> web.Response:
            await request.read()
            url = f"{sai_url}/api/templates/t/execute"
            async with session.post(url, json=PAYLOAD, headers={"X-Api-Key": "k"}) as response:
                return web.Response(body=await response.read(), content_type="application/json")

        app = web.Application()
        app.router.add_post("/v1/chat/completions", answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        await asyncio.Event().wait()

    uvloop.run(run())


@asynccontextmanager
async def running_relay(sai_url: str) -> AsyncIterator[str]:
    """The relay's URL, while it runs."""
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
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()


async def requests_per_second(session: aiohttp.ClientSession, url: str) -> float:
    """Answers a second, of REQUESTS asked CONCURRENCY at a time."""
    body = json.dumps(chat("hi")).encode()
    left = iter(range(REQUESTS))

    async def worker() -> None:
        for _ in left:
            async with session.post(f"{url}/v1/chat/completions", data=body) as response:
                await response.read()
                assert response.status == 200

    started = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(CONCURRENCY)))
    return REQUESTS / (time.perf_counter() - started)


async def main() -> None:
    """Print the rates of each round, and the median of their ratios."""
    async with (
        simulator(recording=False) as sai,
        running_relay(sai.url) as bare,
        running_process(environment(sai.url)) as ours,
        aiohttp.ClientSession() as session,
    ):
        ratios = []
        for _ in range(ROUNDS):
            rates = [await requests_per_second(session, url) for url in (bare, ours.proxy.url)]
            ratios.append(rates[1] / rates[0])
            print(f"bare aiohttp {rates[0]:6.0f}/s   sai-proxy {rates[1]:6.0f}/s   ratio {ratios[-1]:.2f}")
    print(f"median ratio {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    uvloop.run(main())
