"""Constant load from inside the stack's network, for `docker run -i ... python - SECONDS < load.py`.

Each request opens a connection of its own to a replica that the name stands for at that moment, as
a balancer would. Prints `started` when the first answers have come, and at the end one JSON object:
how many requests went well, and what went wrong.
"""

import asyncio
import collections
import json
import random
import socket
import sys
import time

import aiohttp

BODY = {
    "model": "sai-model",
    "stream": True,
    "messages": [{"role": "user", "content": "[[chars=60]][[split=6]][[delay=0.05]]"}],
}


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


async def main(seconds: float) -> None:
    failures: collections.Counter[str] = collections.Counter()
    good = 0
    end = time.monotonic() + seconds
    connector = aiohttp.TCPConnector(force_close=True, limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=30)) as session:

        async def worker() -> None:
            nonlocal good
            while time.monotonic() < end:
                went_well = await ask(session, failures)
                good += went_well
                await asyncio.sleep(0.05)

        working = [asyncio.create_task(worker()) for _ in range(10)]
        while good < 10 and not working[0].done():
            await asyncio.sleep(0.1)
        print("started", flush=True)
        await asyncio.gather(*working)
    print(json.dumps({"good": good, "failures": failures}))


asyncio.run(main(float(sys.argv[1])))
