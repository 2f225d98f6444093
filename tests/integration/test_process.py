"""The commands, as processes of their own."""

import asyncio
import json
import os
import shlex
import signal
import subprocess
import sys

import aiohttp
import pytest

from sai_proxy.http.draining import Lifecycle
from sai_proxy.simulator import Simulator
from tests.support import ROOT, Proxy, chat, content_of, environment, free_port, running_process, until


def run(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sai_proxy", *arguments], env=env, cwd=ROOT, capture_output=True, text=True, timeout=60
    )


async def test_the_demo_needs_no_configuration_and_says_loudly_what_it_is() -> None:
    async with running_process({}, "--demo") as process:
        answer = await process.proxy.ask("Hola")
        assert answer.status == 200
        assert "Hola" in answer.content
        stream = await process.proxy.ask("Hola", stream=True)
        assert "Hola" in content_of(stream.events)
        others = [
            await process.proxy.get("/health"),
            await process.proxy.get("/nowhere"),
            await process.proxy.ask("[[status=500]]"),
            await process.proxy.ask("[[model=gpt]]", stream=True),
        ]
        assert {answer.headers["x-sai-model"] for answer in (answer, stream, *others)} == {"simulator", "gpt"}
        warning = process.lines[0]
    assert warning["level"] == "WARNING"
    assert "DEMO" in warning["message"]


def test_a_faulty_configuration_stops_the_start_with_a_line_for_each_fault() -> None:
    for command in ("serve", "check"):
        done = run(command, SAI_URL="nonsense", SAI_KEY="k", PORT="http")
        assert done.returncode == 1
        assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["PORT", "SAI_URL", "SAI_TEMPLATE_ID"]
        assert "Traceback" not in done.stderr


def test_a_taken_port_is_one_plain_line() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "0"],
        stderr=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as other:
        assert other.stdout is not None
        port = other.stdout.readline().split()[5]
        done = run("serve", "--demo", HOST="127.0.0.1", PORT=port)
        other.kill()
    assert done.returncode == 1
    assert done.stderr.startswith(f"port {port} is taken")
    assert f"PORT={int(port) + 1} make run" in done.stderr
    assert (done.stderr.count("\n"), done.stdout) == (1, ""), "one line, before any other"


async def test_the_open_server_warns_once_and_the_guarded_one_does_not(sai: Simulator) -> None:
    for tokens, warnings in (("", 1), ("token", 0)):
        async with running_process(environment(sai.url, ACCESS_TOKENS=tokens)) as process:
            await process.proxy.ask()
            await process.stop()
        assert sum("ACCESS_TOKENS is not set" in line for line in process.log) == warnings


async def test_a_server_that_does_not_verify_sai_warns(sai: Simulator) -> None:
    async with running_process(environment(sai.url, SAI_TLS_VERIFY="false")) as process:
        await process.stop()
    assert sum("SAI_TLS_VERIFY is false" in line for line in process.log) == 1


async def test_healthcheck_tells_a_living_server_from_none(sai: Simulator) -> None:
    port = free_port()
    assert (await asyncio.to_thread(run, "healthcheck", PORT=str(port))).returncode == 1
    async with running_process(environment(sai.url, PORT=str(port))):
        done = await asyncio.to_thread(run, "healthcheck", HOST="127.0.0.1", PORT=str(port))
        assert (done.returncode, done.stderr) == (0, "")
        assert (await asyncio.to_thread(run, "healthcheck", PORT=str(port))).returncode == 0
    assert run("healthcheck", PORT="nonsense").returncode == 1


async def test_the_simulator_runs_alone() -> None:
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sai_proxy", "simulate", "--port", str(port)), cwd=ROOT, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert b"simulator is listening" in await process.stdout.readline()
    async with running_process(environment(f"http://127.0.0.1:{port}")) as proxy:
        assert (await proxy.proxy.ask("[[answer=hi]]")).content == "hi"
    process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(process.wait(), 10) in (0, -signal.SIGTERM)


# Stopping


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_an_idle_server_stops_at_once_with_exit_code_0(sai: Simulator, number: signal.Signals) -> None:
    async with running_process(environment(sai.url)) as process:
        await process.proxy.ask()
        process.signal(number)
        assert await process.wait() == 0
    assert process.lines[-1]["message"] == "stopped"


async def test_running_answers_finish_after_sigterm(sai: Simulator) -> None:
    async with running_process(environment(sai.url)) as process:
        answer = asyncio.ensure_future(process.proxy.ask("[[answer=abcd]][[split=1]][[delay=0.2]]", stream=True))
        await until(lambda: sai.calls)
        process.signal(signal.SIGTERM)
        assert content_of((await answer).events) == "abcd"
        assert (await answer).events[-1] == "[DONE]"
        assert await process.wait() == 0


async def test_answers_that_outlast_the_shutdown_end_with_an_error_event(sai: Simulator) -> None:
    async with running_process(environment(sai.url, SHUTDOWN_TIMEOUT="0.3")) as process:
        stream = asyncio.ensure_future(process.proxy.ask("[[answer=abcd]][[split=1]][[stall=2]]", stream=True))
        whole = asyncio.ensure_future(process.proxy.ask("[[silence=forever]]"))
        await until(lambda: len(sai.calls) == 2)
        process.signal(signal.SIGTERM)
        *chunks, last = (await stream).events
        assert content_of(chunks) == "ab"
        assert last["error"]["code"] == "server_stopping"
        assert ((await whole).status, (await whole).error["code"]) == (503, "server_stopping")
        assert await process.wait() == 0
    for call in sai.calls:
        await asyncio.wait_for(call.ended.wait(), 1)


async def test_while_draining_the_listener_stays_open_and_readiness_is_off(sai: Simulator) -> None:
    async with running_process(environment(sai.url, DRAIN_DELAY="2")) as process:
        process.signal(signal.SIGTERM)
        await until(lambda: any("stopping;" in line for line in process.log))
        readiness = await process.proxy.get("/health/readiness")
        assert (readiness.status, readiness.headers["Connection"]) == (503, "close")
        assert (await process.proxy.get("/health/liveness")).status == 200
        assert (await process.proxy.ask("[[answer=still here]]")).content == "still here"
        assert await process.wait() == 0


async def test_after_draining_there_are_no_new_connections_though_answers_run(sai: Simulator) -> None:
    async with running_process(environment(sai.url, SHUTDOWN_TIMEOUT="20")) as process:
        answer = asyncio.ensure_future(process.proxy.ask("[[answer=abcd]][[split=1]][[delay=0.5]]", stream=True))
        await until(lambda: sai.calls)
        process.signal(signal.SIGTERM)
        await until(lambda: any("stopping;" in line for line in process.log))
        async with aiohttp.ClientSession() as another:
            with pytest.raises(aiohttp.ClientConnectorError):
                await another.get(f"{process.proxy.url}/health")
        assert not answer.done()
        assert content_of((await answer).events) == "abcd"
        assert await process.wait() == 0


async def listening(proxy: Proxy) -> None:
    """Returns when it answers."""
    while True:
        try:
            if (await proxy.get("/health")).status == 200:
                return
        except aiohttp.ClientConnectionError:
            await asyncio.sleep(0.05)


async def test_a_process_without_standard_streams_serves_and_ends_well(sai: Simulator) -> None:
    """No socket of its own has one of their numbers."""
    port = free_port()
    command = f"exec {shlex.quote(sys.executable)} -m sai_proxy serve 0>&- 1>&- 2>&-"
    environ = environment(sai.url, HOST="127.0.0.1", PORT=str(port))
    process = await asyncio.create_subprocess_shell(command, cwd=ROOT, env=environ)
    async with aiohttp.ClientSession() as session:
        proxy = Proxy(f"http://127.0.0.1:{port}", session, Lifecycle())
        await listening(proxy)
        assert (await proxy.ask()).status == 200
    process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(process.wait(), 10) == 0


@pytest.mark.parametrize("signals", [1, 2])
async def test_a_process_whose_output_nobody_reads_ends(sai: Simulator, signals: int) -> None:
    port, (unread, output) = free_port(), os.pipe()
    drain_delay = "60" if signals == 2 else "0"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sai_proxy", "serve"),
        cwd=ROOT,
        env=environment(sai.url, HOST="127.0.0.1", PORT=str(port), DRAIN_DELAY=drain_delay),
        stdout=output,
    )
    os.close(output)
    async with aiohttp.ClientSession() as session:
        proxy = Proxy(f"http://127.0.0.1:{port}", session, Lifecycle())
        await listening(proxy)
        for _ in range(20):  # a pipe holds 64 KiB: some 150 lines
            answers = await asyncio.gather(*(proxy.ask() for _ in range(20)))
            assert {answer.status for answer in answers} == {200}
    for _ in range(signals):
        process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.02)  # two signals at once would be one
    assert await asyncio.wait_for(process.wait(), 10) == (0 if signals == 1 else -signal.SIGTERM)
    os.close(unread)


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_ends_at_once(sai: Simulator, first: signal.Signals, second: signal.Signals) -> None:
    async with running_process(environment(sai.url, DRAIN_DELAY="60")) as process:
        process.signal(first)
        await until(lambda: any("stopping;" in line for line in process.log))
        process.signal(second)
        assert await process.wait() == -second
        await until(lambda: "second signal" in process.log[-1])


async def test_ctrl_c_in_mid_stream_is_a_499_in_the_log(sai: Simulator) -> None:
    async with running_process(environment(sai.url)) as process:
        curl = await asyncio.create_subprocess_exec(
            *("curl", "-sN", f"{process.proxy.url}/v1/chat/completions", "--json"),
            '{"model":"sai-model","stream":true,"messages":[{"role":"user","content":"[[split=1]][[stall=3]]"}]}',
            stdout=subprocess.PIPE,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored where the suite runs behind `&`
        )
        assert curl.stdout is not None
        await curl.stdout.readline()
        curl.send_signal(signal.SIGINT)
        await curl.wait()
        await asyncio.wait_for(sai.calls[0].ended.wait(), 1)
        await until(lambda: any('"message":"request"' in line for line in process.log))
    assert [line["status"] for line in process.lines if line["message"] == "request"] == [499]


async def test_an_upload_and_a_slow_reader_get_their_time_at_shutdown(sai: Simulator) -> None:
    async with running_process(environment(sai.url, SHUTDOWN_TIMEOUT="20")) as process:
        port = int(process.proxy.url.rsplit(":", 1)[1])
        body = json.dumps(chat("[[answer=uploaded]]")).encode()
        upload, sending = await asyncio.open_connection("127.0.0.1", port)
        sending.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body))
        sending.write(body[:10])
        size = 12_000_000
        slow = json.dumps(chat(f"[[chars={size}]]")).encode()
        reading, asking = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        asking.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(slow) + slow)
        await reading.readuntil(b"\r\n\r\n")
        process.signal(signal.SIGTERM)
        await until(lambda: any("stopping;" in line for line in process.log))
        sending.write(body[10:])
        assert b"uploaded" in await asyncio.wait_for(upload.read(), 10)
        received = 0
        while piece := await asyncio.wait_for(reading.read(1_000_000), 10):
            received += len(piece)
        assert received > size
        assert await process.wait() == 0
        for writer in (sending, asking):
            writer.close()
