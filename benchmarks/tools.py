"""What offering tools costs a plain answer: `python -m benchmarks.tools` asks with and without, in turns, and prints
the ratios of the time to the first text and to the end. Everything runs in this process, on loopback.
"""

import asyncio
import json
import statistics
import time
from typing import Any

from sai_proxy.simulator import simulator
from tests.support import Proxy, chat, running_proxy

ROUNDS = 300
QUESTION = "[[chars=4000]][[split=200]]"
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": f"tool_{number}",
            "description": "Does one of the things that an agent's tools do, in a sentence or two.",
            "parameters": {
                "type": "object",
                "properties": {"path": {"type": "string"}, "lines": {"type": "integer", "minimum": 1}},
                "required": ["path"],
            },
        },
    }
    for number in range(10)
]


async def ask(proxy: Proxy, body: bytes) -> tuple[float, float]:
    """Seconds to the first text, and to the end, of one stream."""
    started, first = time.perf_counter(), 0.0
    headers = {"Content-Type": "application/json"}
    async with proxy.session.post(f"{proxy.url}/v1/chat/completions", data=body, headers=headers) as response:
        received = b""
        async for piece in response.content.iter_any():
            received += piece
            if not first and b'"content":"' in received.replace(b'"content":""', b""):
                first = time.perf_counter() - started
    assert received.endswith(b"data: [DONE]\n\n"), received[-200:]
    return first, time.perf_counter() - started


async def main() -> None:
    plain: list[tuple[float, float]] = []
    offered: list[tuple[float, float]] = []
    bodies: dict[str, Any] = {"plain": chat(QUESTION, stream=True), "offered": chat(QUESTION, stream=True, tools=TOOLS)}
    encoded = {name: json.dumps(body).encode() for name, body in bodies.items()}
    async with simulator(recording=False) as sai, running_proxy(sai) as proxy:
        for _ in range(ROUNDS):
            plain.append(await ask(proxy, encoded["plain"]))
            offered.append(await ask(proxy, encoded["offered"]))
    for number, what in enumerate(("first text", "end")):
        without, with_tools = (statistics.median(times[number] for times in rows) for rows in (plain, offered))
        print(
            f"{what}: {1000 * without:.2f} ms without tools, {1000 * with_tools:.2f} ms with {len(TOOLS)}; "
            f"ratio {with_tools / without:.2f}"
        )


if __name__ == "__main__":
    asyncio.run(main())
