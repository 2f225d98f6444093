"""Constant load from inside the stack's network, for `docker run -i ... python -c "$(cat load.py)"`.

Requests go to the replicas that the name stands for at that moment, as a balancer's would: half of
them over connections of their own, half over connections that are kept. Prints `started` when the first
answers have come; ends with its standard input, and prints one JSON object: how many requests went
well, and what went wrong.
"""

import asyncio
import collections
import json
import random
import socket
import sys
import threading

import aiohttp

BODY = {
    "model": "sai-model",
    "stream": True,
    "messages": [{"role": "user", "content": "[[chars=60]][[split=6]][[delay=0.05]]"}],
}
WORKERS = 5
MAX_SECONDS = 240


async def ask(session: aiohttp.ClientSession, failures: "collections.Counter[str]") -> bool:
    try:
        infos = await asyncio.get_running_loop().getaddrinfo("sai_llm", 4000, family=socket.AF_INET)
        address = random.choice(infos)[4][0]
        async with session.post(f"http://{address}:4000/v1/chat/completions", json=BODY) as response:
            text = await response.text()
            if response.status == 200 and text.endswith("data: [DONE]\n\n"):
                return True
            failures[f"{response.status} {text[-200:]}"] += 1
    except (aiohttp.ClientError, OSError, TimeoutError) as exc:
        failures[f"{type(exc).__name__}: {exc}"] += 1
    return False


async def main() -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    def wait_for_the_end() -> None:
        sys.stdin.read()
        loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    loop.call_later(MAX_SECONDS, ended.set)
    failures: collections.Counter[str] = collections.Counter()
    good: collections.Counter[str] = collections.Counter()

    async def work(kind: str, session: aiohttp.ClientSession) -> None:
        while not ended.is_set():
            if await ask(session, failures):
                good[kind] += 1
                if good.total() == WORKERS:
                    print("started", flush=True)
            await asyncio.sleep(0.05)

    timeout = aiohttp.ClientTimeout(total=30)
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True), timeout=timeout) as anew,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as kept,
    ):
        await asyncio.gather(*(work(kind, s) for kind, s in (("anew", anew), ("kept", kept)) for _ in range(WORKERS)))
    print(json.dumps({"good": good, "failures": failures}))


asyncio.run(main())
