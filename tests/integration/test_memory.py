"""What requests leave behind in the process: nothing, however they end. Measured from outside."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from sai_proxy.simulator import simulator
from tests.support import Process, chat, environment, free_port, running_process

MIB = 2**20
ANSWERS = 1_600
CONNECTIONS = 8


def resident_mib(process: Process) -> float:
    pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    return pages * 4096 / MIB


async def ask_often(process: Process, bodies: list[Any], times: int) -> None:
    """Over a few kept connections."""
    waiting = iter(bodies * (times // len(bodies)))

    async def worker() -> None:
        for body in waiting:
            await process.proxy.post(body)

    await asyncio.gather(*(worker() for _ in range(CONNECTIONS)))


ORDINARY = {
    "whole": chat("[[pause=0.001]][[chars=2000]]"),
    "zipped": chat("[[pause=0.001]][[chars=2000]][[gzip]]"),
    "streamed": chat("[[pieces=3]][[delay=0.001]][[chars=2000]]", stream=True),
    "streamed and zipped": chat("[[pieces=3]][[delay=0.001]][[chars=2000]][[gzip]]", stream=True),
}


async def test_thousands_of_answers_over_kept_connections_leave_nothing() -> None:
    """Each answer arrives after its head. A reference of 10 KiB an answer would show as 30 MiB here."""
    async with simulator(recording=False) as sai, running_process(environment(sai.url)) as process:
        await ask_often(process, list(ORDINARY.values()), ANSWERS)
        before = resident_mib(process)
        await ask_often(process, list(ORDINARY.values()), 2 * ANSWERS)
        assert resident_mib(process) - before < 6


LARGE = "x" * 1_000_000
FAILURES = {
    "no model of ours": {**chat(LARGE), "model": "nobody-knows-this"},
    "no JSON": json.dumps(chat(LARGE)).encode()[:-1],
    "a wrong type": chat(LARGE, n="one"),
    "unsupported": chat(LARGE, logprobs=True),
    "a failure of SAI's": chat("[[status=500]]" + LARGE),
    "a failure of SAI's, streamed": chat("[[status=500]]" + LARGE, stream=True),
    "a failure of two": chat("[[status=429]]" + LARGE, n=2),
    "a failure in mid-stream": chat("[[reset=middle]]" + LARGE, stream=True),
    "a failure of two, in mid-stream": chat("[[reset=middle]]" + LARGE, n=2, stream=True),
    "a timeout": chat("[[silence=forever]]" + LARGE),
    "a timeout, streamed": chat("[[silence=forever]]" + LARGE, stream=True),
}


@pytest.mark.parametrize("body", FAILURES.values(), ids=FAILURES)
async def test_failures_with_large_bodies_leave_nothing(body: Any) -> None:
    changes = {"REQUEST_TIMEOUT": "0.05", "CONTEXT_LIMIT_TOKENS": "1000000"}
    async with simulator(recording=False) as sai, running_process(environment(sai.url, **changes)) as process:
        for _ in range(3):
            await process.proxy.post(body)
        before = resident_mib(process)
        for _ in range(20):
            await process.proxy.post(body)
        assert resident_mib(process) - before < 20, "each would hold 2 MiB or more"


TOOLS = [{"type": "function", "name": f"f{n}", "description": "x" * 5_000} for n in range(60)]
ENDED = {
    "over the context limit": ("/v1/chat/completions", chat("x" * 5_000_000)),
    "over the context limit, at Responses": ("/v1/responses", {"model": "sai-model", "input": "x" * 5_000_000}),
    "no such model": ("/v1/responses", {"model": "nobody-knows-this", "input": LARGE}),
    "answered, with tools": ("/v1/responses", {"model": "sai-model", "input": "x", "tools": TOOLS}),
    "answered, with tools, in chat": (
        "/v1/chat/completions",
        chat("x", tools=[{"type": "function", "function": tool} for tool in TOOLS]),
    ),
}


@pytest.mark.parametrize(("path", "body"), ENDED.values(), ids=ENDED)
async def test_connections_that_stay_open_keep_nothing_of_what_was_asked(path: str, body: Any) -> None:
    """aiohttp keeps the last request of each."""
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n".encode()
    async with simulator(recording=False) as sai, running_process(environment(sai.url)) as process:
        port = int(process.proxy.url.rsplit(":", 1)[1])
        writers: list[asyncio.StreamWriter] = []

        async def ask() -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writers.append(writer)
            writer.write(head + data)
            answer = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(answer.lower().partition(b"content-length: ")[2].split()[0]))

        for _ in range(5):
            await ask()
        before = resident_mib(process)
        for _ in range(25):
            await ask()
        assert resident_mib(process) - before < 20, "each would hold a MiB or more"
        for writer in writers:
            writer.close()


@pytest.mark.parametrize("fields", [{}, {"stream": True}, {"n": 2}], ids=str)
async def test_an_unreachable_sai_leaves_nothing(fields: dict[str, Any]) -> None:
    changes = {"CONTEXT_LIMIT_TOKENS": "1000000"}
    async with running_process(environment(f"http://127.0.0.1:{free_port()}", **changes)) as process:
        body = chat(LARGE, **fields)
        for _ in range(3):
            await process.proxy.post(body)
        before = resident_mib(process)
        for _ in range(20):
            assert (await process.proxy.post(body)).status == 503
        assert resident_mib(process) - before < 20
