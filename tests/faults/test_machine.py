"""A machine that fails under the server: signals, disks, pipes, clocks, descriptors, memory."""

import asyncio
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import pytest

from sai_proxy.http.draining import Lifecycle
from sai_proxy.simulator import Simulator
from tests.conftest import StartProxy
from tests.support import (
    ROOT,
    SYSTEM_KEY,
    Proxy,
    chat,
    content_of,
    environment,
    free_port,
    running_process,
    until,
)

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc, and sets limits of others")

MIB = 2**20


async def until_it(condition: Callable[[], Awaitable[object]], timeout_s: float = 20) -> None:
    """Returns when `condition` holds."""
    async with asyncio.timeout(timeout_s):
        while not await condition():
            await asyncio.sleep(0.05)


async def status_of(proxy: Proxy, path: str) -> int:
    """0 if there is no answer."""
    try:
        async with aiohttp.request("GET", proxy.url + path) as response:
            return response.status
    except aiohttp.ClientError:
        return 0


def cpu_s(pid: int) -> float:
    """Seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def highest_descriptor(pid: int) -> int:
    return max(int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir())


@asynccontextmanager
async def served_to(
    output: int, env: dict[str, str], port: int | None = None
) -> AsyncIterator[tuple[Proxy, asyncio.subprocess.Process]]:
    """The server, with this descriptor as its standard output; ready for requests."""
    port = port or free_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sai_proxy", "serve"),
        cwd=ROOT,
        env={**env, "HOST": "127.0.0.1", "PORT": str(port)},
        stdout=output,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with aiohttp.ClientSession() as session:
            proxy = Proxy(f"http://127.0.0.1:{port}", session, Lifecycle())

            async def is_ready() -> bool:
                return await status_of(proxy, "/health/readiness") == 200

            await until_it(is_ready)
            yield proxy, process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


# Rows S1, S2. signals


async def test_a_stopping_server_is_not_ready_and_tells_whoever_it_must_leave(sai: Simulator) -> None:
    async with running_process(environment(sai.url, DRAIN_DELAY="0.5", SHUTDOWN_TIMEOUT="0.5")) as process:
        short = asyncio.ensure_future(process.proxy.ask("[[answer=abcd]][[split=1]][[delay=0.1]]", stream=True))
        long = asyncio.ensure_future(process.proxy.ask("[[answer=abcd]][[split=1]][[stall=2]]", stream=True))
        await until(lambda: len(sai.calls) == 2)
        process.signal(signal.SIGTERM)
        await until(lambda: any("stopping;" in line for line in process.log))
        assert await status_of(process.proxy, "/health/readiness") in (0, 503), "nobody is sent here any more"
        assert (await short).events[-1] == "[DONE]"
        *_, last = (await long).events
        assert last["error"]["code"] == "server_stopping"
        assert await process.wait() == 0


async def test_a_killed_server_is_back_at_once_and_its_log_can_be_read(sai: Simulator, tmp_path: Path) -> None:
    log_file, port = tmp_path / "sai.log", free_port()
    env = environment(sai.url, LOG_FILE=str(log_file))
    async with served_to(subprocess.DEVNULL, env, port) as (proxy, process):
        stream = asyncio.ensure_future(proxy.ask("[[split=1]][[stall=5]]", stream=True))
        await until(lambda: sai.calls and '"listening"' in log_file.read_text())
        process.kill()
        with pytest.raises(aiohttp.ClientError):
            await stream
        assert await process.wait() == -signal.SIGKILL
    async with served_to(subprocess.DEVNULL, env, port) as (proxy, process):
        assert (await proxy.ask("[[answer=back]]")).content == "back"
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 20) == 0
    messages = [json.loads(line)["message"] for line in log_file.read_text().splitlines()]
    assert messages.count("listening") == 2
    assert messages[-1] == "stopped"


# Rows S3. disks and pipes


async def test_a_full_disk_costs_lines_of_the_file_alone_and_they_come_back(sai: Simulator, tmp_path: Path) -> None:
    """A limit on the size of files is what a full disk is to the one who writes."""
    log_file = tmp_path / "sai.log"
    async with running_process(environment(sai.url, LOG_FILE=str(log_file))) as process:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (4_000, resource.RLIM_INFINITY))
        for _ in range(5):
            answers = await asyncio.gather(*(process.proxy.ask() for _ in range(10)))
            assert {answer.status for answer in answers} == {200}
        await until(lambda: sum('"message":"request"' in line for line in process.log) == 50)
        assert log_file.stat().st_size <= 4_000
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert (await process.proxy.ask(headers={"X-Request-ID": "after-all"})).status == 200
        await until(lambda: '"after-all"' in log_file.read_text())
        await process.stop()
    assert sum("the log file cannot be written" in line for line in process.log) == 1
    assert json.loads(log_file.read_text().splitlines()[-1])["message"] == "stopped"


async def test_a_log_file_in_a_folder_that_cannot_be_made_costs_the_file_alone(sai: Simulator) -> None:
    async with running_process(environment(sai.url, LOG_FILE="/proc/no-such-folder/sai.log")) as process:
        assert (await process.proxy.ask()).status == 200
        assert any('"no log file"' in line for line in process.log)


async def test_a_closed_output_costs_lines_alone(sai: Simulator) -> None:
    reading, output = os.pipe()
    async with served_to(output, environment(sai.url)) as (proxy, _):
        os.close(output)
        os.close(reading)
        for _ in range(3):
            assert {answer.status for answer in await asyncio.gather(*(proxy.ask() for _ in range(20)))} == {200}
            assert (await proxy.ask("[[status=500]]")).status == 502


async def test_a_closed_output_makes_an_orderly_end_no_failure(sai: Simulator) -> None:
    reading, output = os.pipe()
    async with served_to(output, environment(sai.url)) as (proxy, process):
        os.close(output)
        os.close(reading)
        assert (await proxy.ask()).status == 200
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 20) == 0
        assert process.stderr is not None
        assert await process.stderr.read() == b""


async def test_an_output_that_is_stuck_holds_no_answer_back(sai: Simulator) -> None:
    """Nobody reads the pipe, which is full before the first question."""
    reading, output = os.pipe()
    async with served_to(output, environment(sai.url)) as (proxy, process):
        os.set_blocking(output, False)
        with suppress(BlockingIOError):
            while True:
                os.write(output, b"x" * 512)
        os.set_blocking(output, True)  # it is the server's as well
        before = cpu_s(process.pid)
        for _ in range(5):
            streams = await asyncio.gather(*(proxy.ask("[[answer=abc]][[split=1]]", stream=True) for _ in range(20)))
            assert {content_of(answer.events) for answer in streams} == {"abc"}
        assert cpu_s(process.pid) - before < 5
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 20) == 0
    os.close(output)
    os.close(reading)


# Rows S4. the clock on the wall


@pytest.mark.parametrize("hours", [-1, 1])
async def test_a_clock_that_is_set_moves_only_what_shows_the_time(
    sai: Simulator, start_proxy: StartProxy, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    proxy = await start_proxy(HEARTBEAT_SECONDS="0.1", STREAM_IDLE_TIMEOUT="1", REQUEST_TIMEOUT="20")
    before = (await proxy.ask()).json["created"]
    running = asyncio.ensure_future(proxy.ask("[[answer=abcd]][[split=1]][[delay=0.3]]", stream=True))
    await until(lambda: len(sai.calls) == 2)
    real, real_ns = time.time, time.time_ns
    monkeypatch.setattr(time, "time", lambda: real() + hours * 3600)
    monkeypatch.setattr(time, "time_ns", lambda: real_ns() + hours * 3600 * 10**9)
    answer = await running
    assert content_of(answer.events) == "abcd"
    assert ": keep-alive" in answer.text
    stalled = await asyncio.wait_for(proxy.ask("[[split=1]][[stall=1]]", stream=True), 20)
    assert stalled.events[-1]["error"]["code"] == "upstream_timeout"
    after = (await proxy.ask()).json["created"]
    assert abs(after - before - hours * 3600) < 60


# Rows S5. descriptors


async def test_without_descriptors_no_connection_is_taken_and_no_time_is_lost(sai: Simulator) -> None:
    async with running_process(environment(sai.url)) as process:
        assert (await process.proxy.ask()).status == 200
        hard = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)[1]
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (highest_descriptor(process.pid) + 5, hard))
        port = int(process.proxy.url.rsplit(":", 1)[1])
        waiting = [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(40)]

        async def has_none_left() -> bool:
            return await status_of_new_connection(port) == b""

        await until_it(has_none_left)
        before = cpu_s(process.pid)
        await asyncio.sleep(1)  # in which it should do nothing
        assert cpu_s(process.pid) - before < 0.5
        assert (await process.proxy.get("/health/liveness")).status == 200, "over the connection that it has"
        answers = await asyncio.gather(process.proxy.ask("[[pause=0.1]]"), return_exceptions=True)
        assert all(isinstance(answer, BaseException) or answer.status in (200, 503) for answer in answers)
        for sock in waiting:
            sock.close()

        async def serves_again() -> bool:
            return await status_of(process.proxy, "/health/readiness") == 200

        await until_it(serves_again)
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (hard, hard))
        assert (await process.proxy.ask()).status == 200
        await process.stop()
    assert not [line for line in process.log if "unexpected error" in line]


async def status_of_new_connection(port: int) -> bytes:
    """What a new connection is answered; nothing if it is closed, or left waiting."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionError:
        return b""
    writer.write(b"GET /health/liveness HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    try:
        return await asyncio.wait_for(reader.read(12), 1)
    except (TimeoutError, ConnectionError):
        return b""
    finally:
        writer.close()


# Rows S6. secrets in files


def secret_faults(path: Path) -> subprocess.CompletedProcess[str]:
    env = environment("http://127.0.0.1:1", SAI_KEY="", SAI_COOKIE="", SAI_KEY_FILE=str(path), HOST="127.0.0.1")
    return subprocess.run(
        [sys.executable, "-m", "sai_proxy", "serve"], env=env, cwd=ROOT, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("content", [None, b"", b" \n", b"\xff\xfes3cret", b"s3cret\x01"])
def test_a_secret_that_cannot_be_used_stops_the_start_and_is_not_shown(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "key"
    if content is not None:
        file.write_bytes(content)
    done = secret_faults(file)
    assert done.returncode == 1
    assert "SAI_KEY" in done.stderr
    assert content == b"s3cret\x01" or str(file) in done.stderr
    assert "s3cret" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


async def test_a_changed_secret_is_read_at_the_next_start_without_its_line_end(sai: Simulator, tmp_path: Path) -> None:
    file = tmp_path / "key"
    for key in (SYSTEM_KEY, "another-key"):
        file.write_text(f"{key}\r\n")
        async with running_process(environment(sai.url, SAI_KEY="", SAI_KEY_FILE=str(file))) as process:
            assert (await process.proxy.ask()).status == 200
    assert [call.key for call in sai.calls] == [SYSTEM_KEY, "another-key"]


# Rows S8. memory

ROOM_MIB = 30
NEARLY_FULL = f"""
import sys
from sai_proxy import app
from sai_proxy.http.memory_pressure import SHED_SHARE, resident_bytes
app.memory_limit = lambda: int((resident_bytes() + {ROOM_MIB} * 2**20) / SHED_SHARE)
from sai_proxy.__main__ import main
sys.argv = ["sai_proxy", "serve"]
sys.exit(main())
"""
"""The server in a container that has room for so much more before it lets nothing in."""


async def test_near_its_memorys_limit_it_refuses_but_lives_and_recovers_alone(sai: Simulator) -> None:
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", NEARLY_FULL),
        cwd=ROOT,
        env=environment(sai.url, HOST="127.0.0.1", PORT=str(port)),
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        async with aiohttp.ClientSession() as session:
            proxy = Proxy(f"http://127.0.0.1:{port}", session, Lifecycle())

            async def is_let_in() -> bool:
                return await status_of(proxy, "/health/liveness") == 200 and (await proxy.ask()).status == 200

            async def is_refused() -> bool:
                return (await proxy.ask()).status == 503

            await until_it(is_let_in)
            uploads = [await begin_upload(port, 15 * MIB) for _ in range(3)]
            await until_it(is_refused)
            refusal = await proxy.ask(stream=True)
            assert (refusal.status, refusal.error["code"]) == (503, "server_busy")
            assert int(refusal.headers["Retry-After"]) > 0
            for path in ("/health", "/health/liveness", "/health/readiness", "/metrics", "/v1/models"):
                assert (await proxy.get(path)).status == 200
            for upload in uploads:
                upload.transport.abort()
            await until_it(is_let_in)
    finally:
        process.kill()
        await process.wait()


async def begin_upload(port: int, size: int) -> asyncio.StreamWriter:
    """All of a body but its end."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (size + 1))
    writer.write(b"x" * size)
    await writer.drain()
    return writer


# Rows S9. who asks for the metrics


async def test_a_hundred_scrapes_cost_little_and_disturb_no_stream(sai: Simulator) -> None:
    async with running_process(environment(sai.url)) as process:
        for body in (chat(), chat("[[status=500]]"), chat("[[status=404]]"), b"{"):
            await process.proxy.post(body)
        running = asyncio.ensure_future(process.proxy.ask("[[chars=100]][[split=2]][[delay=0.01]]", stream=True))
        await until(lambda: len(sai.calls) == 4)
        before = cpu_s(process.pid)
        scrapes = [await process.proxy.get("/metrics") for _ in range(100)]
        assert cpu_s(process.pid) - before < 2, "20 ms each"
        assert {scrape.status for scrape in scrapes} == {200}
        assert max(len(scrape.text) for scrape in scrapes) < 100_000
        assert len(content_of((await running).events)) == 100
        sizes = {len(scrape.text.splitlines()) for scrape in scrapes[-20:]}
        assert max(sizes) - min(sizes) < 40, "asking makes no new series each time"
