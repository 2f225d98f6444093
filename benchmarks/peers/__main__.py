"""The same question to others: nginx as a plain proxy, Portkey's gateway (Node), LiteLLM's proxy with the least of a
handler. Each on a core of its own, SAI and wrk on the other, in turns in one run. Those that are not installed are
left out, saying so.

Portkey cannot ask SAI: it gets OpenAI's own answer from its upstream, which it passes on.
"""

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import uvloop

from benchmarks.bench import in_turns, median_of
from benchmarks.load import Rate, missing_programs, question, wrk
from benchmarks.sai import ANSWER
from benchmarks.servers import LOAD_CORE, SERVER_CORE, Server, nginx, proxy, relay, started
from tests.support import ROOT, free_port

HERE = Path(__file__).parent
PORTKEY = HERE / "node_modules/@portkey-ai/gateway/build/start-server.js"
LITELLM = ROOT / ".venv-clients/bin/litellm"
ROUNDS, SECONDS = 3, 3.0
CONNECTIONS = (1, 32, 128)

OPENAI = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "sai-model",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": ANSWER}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 17, "completion_tokens": 90, "total_tokens": 107},
    }
)


@asynccontextmanager
async def portkey() -> AsyncIterator[Server]:
    port = free_port()
    command = ["node", str(PORTKEY), f"--port={port}", "--headless"]
    async with started("Portkey (Node)", command, port, SERVER_CORE, variables={"NODE_ENV": "production"}) as running:
        yield running


@asynccontextmanager
async def litellm(sai_url: str) -> AsyncIterator[Server]:
    port = free_port()
    command = [str(LITELLM), "--config", str(HERE / "litellm.yaml"), "--host", "127.0.0.1", "--port", str(port)]
    variables = {"SAI_URL": sai_url, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
    variables |= {"LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true"}
    async with started("LiteLLM", command, port, SERVER_CORE, variables=variables, patience_s=90) as running:
        yield running


async def compare() -> None:
    """A row for each."""
    os.sched_setaffinity(0, {LOAD_CORE})
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sai = await stack.enter_async_context(nginx(folder))
        openai = await stack.enter_async_context(
            nginx(folder, f"default_type application/json; return 200 '{OPENAI}';")
        )
        plain = f"proxy_pass http://127.0.0.1:{sai.port}/api/templates/t/execute; proxy_http_version 1.1;"
        servers = [
            (await stack.enter_async_context(nginx(folder, plain, SERVER_CORE)))._replace(name="nginx, a plain proxy"),
            await stack.enter_async_context(relay(sai.url)),
            await stack.enter_async_context(proxy(sai.url, folder)),
        ]
        headers = {"x-portkey-provider": "openai", "x-portkey-custom-host": f"http://127.0.0.1:{openai.port}/v1"}
        if PORTKEY.exists():
            servers.append(await stack.enter_async_context(portkey()))
        else:
            print("Portkey is left out: make bench-peers installs it where there is npm", file=sys.stderr)
        if LITELLM.exists():
            servers.append(await stack.enter_async_context(litellm(sai.url)))
        else:
            print("LiteLLM is left out: make test-clients installs it", file=sys.stderr)

        print("| | " + " | ".join(f"req/s at {count}" for count in CONNECTIONS) + " | p50 ms at 1 | memory MiB |")
        print("|---|" + "---|" * (len(CONNECTIONS) + 2))
        cells: dict[str, list[str]] = {server.name: [] for server in servers}
        alone: dict[str, float] = {}
        for count in CONNECTIONS:

            async def measure(asked: Server, count: int = count) -> Rate:
                more = headers if asked.name.startswith("Portkey") else {"Authorization": "Bearer raspberry"}
                return await wrk(asked, question(), count, SECONDS, folder, headers=more, strict=False)

            for server, found in zip(servers, await in_turns(servers, measure, ROUNDS), strict=True):
                failed = sum(rate.failed for rate in found)
                cells[server.name].append(f"{median_of(found, 'per_s'):.0f}" + f" ({failed} failed)" * bool(failed))
                if count == 1:
                    alone[server.name] = median_of(found, "p50_s") * 1e3
        for server in servers:
            memory = server.rss_bytes() / 2**20
            print(f"| {server.name} | {' | '.join(cells[server.name])} | {alone[server.name]:.2f} | {memory:.0f} |")


if __name__ == "__main__":
    if missing := missing_programs():
        sys.exit(f"not installed: {', '.join(missing)} (Debian: apt-get install nginx-light wrk)")
    uvloop.run(compare())
    asyncio.set_event_loop(None)
