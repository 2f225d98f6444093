"""Several processes on one port, as processes."""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from sai_proxy.simulator import Simulator, simulator
from tests.integration.test_process import run
from tests.support import Answer, Process, chat, content_of, environment, free_port, read_events, running_process, until

WORKERS = 3


@asynccontextmanager
async def workers(sai: Simulator, **changes: str) -> AsyncIterator[Process]:
    async with running_process(environment(sai.url, WORKERS=str(WORKERS), **changes)) as process:
        yield process


def children(process: Process) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return False


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def ask_anew(process: Process, body: Any = None, path: str = "/v1/chat/completions") -> Answer:
    """Over a connection of its own, which the kernel gives to any of the workers."""
    url = process.proxy.url + path
    async with aiohttp.ClientSession() as session:
        method = "GET" if body is None else "POST"
        async with session.request(method, url, json=body) as response:
            return Answer(response.status, response.headers.copy(), await response.text())


def who_answered(process: Process) -> Counter[str]:
    """Numbers of answers to questions, by the worker."""
    lines = [line for line in process.lines if line["message"] == "request" and line["method"] == "POST"]
    return Counter(line["host"].rpartition("/")[2] for line in lines)


async def asked_of_all(process: Process) -> int:
    """Ask until each worker has answered; how often that was."""
    asked = 0
    while len(who_answered(process)) < WORKERS:
        assert (await ask_anew(process, chat())).status == 200
        asked += 1
        await until(lambda so_far=asked: who_answered(process).total() == so_far)  # type: ignore[misc]
    return asked


async def count(process: Process, name: str) -> float:
    text = (await ask_anew(process, path="/metrics")).text
    return sum(float(value) for value in re.findall(rf"^{name}{{.*}} (.*)$", text, re.MULTILINE))


@pytest.fixture
async def sai() -> AsyncIterator[Simulator]:
    async with simulator() as running:
        yield running


async def test_all_answer_on_one_port_and_their_metrics_are_one(sai: Simulator) -> None:
    async with workers(sai) as process:
        asked = await asked_of_all(process)
        for _ in range(5):  # whichever worker is asked
            assert await count(process, "gen_ai_server_request_duration_seconds_count") == asked
        assert len(sai.calls) == asked
        text = (await ask_anew(process, path="/metrics")).text
        assert 'sai_proxy_models{model="sai-model",road="template"} 1.0' in text
        listening = [line for line in process.lines if line["message"] == "listening"]
        assert [line["workers"] for line in listening] == [WORKERS]
        assert await process.stop()
        assert (await process.wait()) == 0


async def test_an_answer_that_one_keeps_is_kept_for_all(sai: Simulator) -> None:
    async with workers(sai) as process:
        made = (await ask_anew(process, {"model": "sai-model", "input": "one"}, "/v1/responses")).json
        for _ in range(12):
            assert (await ask_anew(process, path=f"/v1/responses/{made['id']}")).json == made
        body = {"model": "sai-model", "input": "two", "previous_response_id": made["id"]}
        assert (await ask_anew(process, body, "/v1/responses")).status == 200
        assert "sai_proxy_kept_bytes 0.0" not in (await ask_anew(process, path="/metrics")).text


async def test_where_one_falls_another_takes_its_place_and_what_was_counted_stays(sai: Simulator) -> None:
    async with workers(sai) as process:
        asked = await asked_of_all(process)
        await count(process, "sai_proxy_requests_total")  # which tells the parent of all of them
        before = children(process)
        os.kill(before[0], signal.SIGKILL)
        await until(lambda: len(set(children(process)) - set(before)) == 1)
        (line,) = [line for line in process.lines if line["message"] == "a worker has fallen, another is started"]
        assert (line["level"], line["exit_code"]) == ("ERROR", -signal.SIGKILL)
        for _ in range(20):
            assert (await ask_anew(process, chat())).status == 200
        assert await count(process, "gen_ai_server_request_duration_seconds_count") == asked + 20


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_answers_end_before_it_stops(sai: Simulator, number: int) -> None:
    async with workers(sai) as process:
        groups = {os.getpgid(pid) for pid in children(process)}
        assert os.getpgid(process.pid) not in groups, "a terminal's Ctrl-C is for the parent alone, who passes it on"
        url = process.proxy.url + "/v1/chat/completions"
        body = chat("[[answer=abcdef]][[pieces=6]][[delay=0.1]]", stream=True)
        async with aiohttp.ClientSession() as session, session.post(url, json=body) as response:
            await response.content.readuntil(b'"content":"a"')
            process.signal(number)
            rest = (await response.content.read()).decode()
        assert "".join(re.findall(r'"content":"(.)"', rest)) == "bcdef"
        assert rest.endswith("data: [DONE]\n\n")
        assert await process.wait() == 0
        assert all(json.loads(line) for line in process.log)


async def test_many_who_look_at_the_metrics_at_once_hold_nobody_up(sai: Simulator) -> None:
    async with workers(sai) as process:
        asked = await asked_of_all(process)
        made = (await ask_anew(process, {"model": "sai-model", "input": "one"}, "/v1/responses")).json
        name = "gen_ai_server_request_duration_seconds_count"
        told, kept = await asyncio.gather(
            asyncio.gather(*(count(process, name) for _ in range(40))),
            asyncio.gather(*(ask_anew(process, path=f"/v1/responses/{made['id']}") for _ in range(20))),
        )
        assert set(told) == {asked + 1}
        assert {answer.status for answer in kept} == {200}
        assert not [line for line in process.log if "out of reach" in line]


async def test_a_worker_that_hangs_is_replaced(sai: Simulator) -> None:
    async with workers(sai) as process:
        asked = await asked_of_all(process)
        await count(process, "sai_proxy_requests_total")  # which tells the parent of all of them
        hanging = children(process)[0]
        os.kill(hanging, signal.SIGSTOP)
        await until(lambda: hanging not in children(process) and len(children(process)) == WORKERS, 40)
        assert "a worker hangs, it is killed" in [line["message"] for line in process.lines]
        await until(lambda: [line for line in process.log if "another is started" in line])
        for _ in range(10):
            assert (await ask_anew(process, chat())).status == 200
        assert await count(process, "gen_ai_server_request_duration_seconds_count") == asked + 10


async def test_a_worker_that_hangs_does_not_hold_the_end_up(sai: Simulator) -> None:
    async with workers(sai) as process:
        os.kill(children(process)[0], signal.SIGSTOP)
        process.signal(signal.SIGTERM)
        await until(lambda: len(children(process)) == 1)
        process.signal(signal.SIGTERM)
        await asyncio.wait_for(process.wait(), 8)


async def test_a_signal_to_all_of_them_is_one(sai: Simulator) -> None:
    """As whoever ends a service sends it: to each process, while the parent passes it on, too."""
    async with workers(sai) as process:
        url = process.proxy.url + "/v1/chat/completions"
        body = chat("[[answer=abcdef]][[pieces=6]][[delay=0.1]]", stream=True)
        async with aiohttp.ClientSession() as session, session.post(url, json=body) as response:
            await response.content.readuntil(b'"content":"a"')
            pids = children(process)
            process.signal(signal.SIGTERM)
            for _ in range(3):
                for pid in pids:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGTERM)
                await asyncio.sleep(0.05)
            rest = (await response.content.read()).decode()
        assert rest.endswith("data: [DONE]\n\n")
        assert await process.wait() == 0


async def test_a_second_signal_ends_all_at_once(sai: Simulator) -> None:
    async with workers(sai) as process:
        asking = asyncio.ensure_future(ask_anew(process, chat("[[silence=forever]]")))
        await until(lambda: sai.calls)
        process.signal(signal.SIGTERM)
        await until(lambda: [line for line in process.log if "stopping" in line])
        process.signal(signal.SIGTERM)
        await asyncio.wait_for(process.wait(), 5)
        with pytest.raises(aiohttp.ClientError):
            await asking


async def test_workers_whose_parent_has_fallen_end_too(sai: Simulator) -> None:
    async with workers(sai) as process:
        pids = children(process)
        process.signal(signal.SIGKILL)
        await until(lambda: not any(map(is_running, pids)))


async def test_a_worker_that_cannot_start_is_one_plain_line(sai: Simulator) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = str(other.getsockname()[1])
        settings = environment(sai.url, WORKERS="2", PORT=str(free_port()), HOST="127.0.0.1", METRICS_PORT=taken)
        done = await asyncio.to_thread(run, "serve", **settings)
    assert done.returncode == 1
    assert "cannot listen" in done.stderr
    assert done.stderr.splitlines()[-1] == "a worker could not start: see above"
    assert "Traceback" not in done.stderr


async def test_each_has_a_log_file_of_its_own(sai: Simulator, tmp_path: Path) -> None:
    async with workers(sai, LOG_FILE=str(tmp_path / "proxy.log")) as process:
        await asked_of_all(process)
        await process.stop()
    assert names_in(tmp_path) == ["proxy-1.log", "proxy-2.log", "proxy-3.log", "proxy.log"]
    for number in range(1, WORKERS + 1):
        lines = [json.loads(line) for line in (tmp_path / f"proxy-{number}.log").read_text().splitlines()]
        assert {line["host"].rpartition("/")[2] for line in lines} == {str(number)}


async def test_lines_of_many_at_once_stay_whole(sai: Simulator) -> None:
    """They write to one pipe."""
    async with workers(sai) as process:
        bodies = [chat("x" * 10, user=f"{number}") for number in range(300)]
        answers = await asyncio.gather(*(ask_anew(process, body) for body in bodies))
        assert {answer.status for answer in answers} == {200}
        await until(lambda: who_answered(process).total() == 300)


async def test_a_stream_is_one_workers(sai: Simulator) -> None:
    async with workers(sai) as process:
        answers = await asyncio.gather(
            *(ask_anew(process, chat("[[answer=abc]][[pieces=3]][[delay=0.05]]", stream=True)) for _ in range(20))
        )
        assert {content_of(read_events(answer.text)) for answer in answers} == {"abc"}
