"""The first contacts: a terminal, a misspelt setting, a wrong URL, a credential before a rollout, who asks."""

import asyncio
import os
import pty
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from sai_proxy.simulator import Simulator
from tests.conftest import StartProxy
from tests.support import ROOT, SYSTEM_KEY, USER_KEY, environment, free_port, request_lines, until

RUN = (sys.executable, "-m", "sai_proxy")


class Terminal:
    """A program in a pseudo-terminal. text: all that it has shown."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process = process
        self.url = f"http://127.0.0.1:{port}"
        self.text = ""

    async def shows(self, text: str) -> None:
        await until(lambda: text in self.text, 60)


@asynccontextmanager
async def in_a_terminal(*arguments: str, **env: str) -> AsyncIterator[Terminal]:
    master, slave = pty.openpty()
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *RUN,
        *arguments,
        cwd=ROOT,
        env={"HOST": "127.0.0.1", "PORT": str(port), "TERM": "xterm", "LANG": "C.UTF-8", **env},
        stdin=slave,
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    terminal, loop = Terminal(process, port), asyncio.get_running_loop()

    def read() -> None:
        try:
            terminal.text += os.read(master, 65_536).decode(errors="replace")
        except OSError:
            loop.remove_reader(master)

    loop.add_reader(master, read)
    try:
        yield terminal
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
        await process.wait()
        loop.remove_reader(master)
        os.close(master)


async def ask(url: str, model: str = "sai-model") -> int:
    body = {"model": model, "messages": [{"role": "user", "content": "Hola"}]}
    async with aiohttp.ClientSession() as session, session.post(f"{url}/v1/chat/completions", json=body) as response:
        await response.read()
        return response.status


async def test_a_terminal_gets_a_banner_and_a_line_a_request() -> None:
    async with in_a_terminal("serve", "--demo") as terminal:
        await terminal.shows("Ctrl-C ends it.")
        for shown in ("DEMO", f"{terminal.url}/v1", "/docs", "sai-model", f"curl {terminal.url}/v1/chat/completions"):
            assert shown in terminal.text
        assert "ACCESS_TOKENS" not in terminal.text, "a demo has no credentials to lose"
        assert '"level"' not in terminal.text
        await ask(terminal.url)
        await terminal.shows("tokens")
        (line,) = [line for line in terminal.text.splitlines() if "tokens" in line]
        plain = re.sub(r"\x1b\[\d*m", "", line)
        assert re.search(
            r"\d\d:\d\d:\d\d 200  POST /v1/chat/completions  sai-model  first text [\d.]+ s  [\d.]+ s", plain
        )
        assert line != plain, "in colour"
        await ask(terminal.url, "nope")
        await terminal.shows("model_not_found")
        assert "El modelo 'nope' no existe aquí" in terminal.text
    assert "Traceback" not in terminal.text


async def test_a_terminal_without_colours(sai: Simulator) -> None:
    async with in_a_terminal("serve", **environment(sai.url), NO_COLOR="1") as terminal:
        await terminal.shows("Ctrl-C ends it.")
        assert f"in front of {sai.url}" in terminal.text
        assert "ACCESS_TOKENS is not set" in terminal.text
        assert "\x1b[" not in terminal.text


@pytest.mark.parametrize(("form", "begins"), [("json", "{"), ("text", "\n")])
async def test_the_form_of_the_log_can_be_chosen(sai: Simulator, form: str, begins: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *RUN,
        "serve",
        cwd=ROOT,
        env={**environment(sai.url), "HOST": "127.0.0.1", "PORT": str(free_port()), "LOG_FORMAT": form},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    seen = ""
    while "listening" not in seen and "Ctrl-C" not in seen:
        seen += (await process.stdout.readline()).decode()
    process.terminate()
    await process.wait()
    assert ('"message":"listening"' in seen) == (form == "json")
    assert ("base URL" in seen) == (form == "text")


async def run(*arguments: str, **env: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *RUN, *arguments, cwd=ROOT, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), errors.decode()


@pytest.mark.parametrize("command", ["check", "serve"])
async def test_a_misspelt_name_that_would_open_the_server_stops_it(command: str) -> None:
    code, _, errors = await run(command, **environment("http://sai", ACCESS_TOKEN="secret-token"))
    assert code == 1
    assert "ACCESS_TOKEN: unknown variable in the environment; did you mean ACCESS_TOKENS?" in errors
    assert "secret-token" not in errors


async def test_misspelt_names_are_reported_with_what_was_meant(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("SAI_URL=http://sai\nSAI_TEMPLATE_ID=t\nSAI_KEY=k\nSAI_MODEL=x\nSOMETHING=1\nSAI_PROXY_IMAGE=x\n")
    code, out, errors = await run("check", "--env-file", str(file), REQUEST_TIMOUT="3", PATH="/bin", HOSTNAME="h")
    assert code == 0
    assert "SAI_MODELS=sai-model" in out
    lines = errors.splitlines()
    assert lines == [
        f"warning: SAI_MODEL: unknown variable in {file}; did you mean SAI_MODELS?",
        f"warning: SOMETHING: unknown variable in {file}",
        "warning: REQUEST_TIMOUT: unknown variable in the environment; did you mean REQUEST_TIMEOUT?",
    ]


async def test_the_examples_placeholders_are_refused() -> None:
    code, _, errors = await run("check", "--env-file", ".env.example", ACCESS_TOKENS="a-long-random-token,another")
    assert code == 1
    for name in ("SAI_URL", "SAI_TEMPLATE_ID", "ACCESS_TOKENS"):
        assert re.search(rf"^{name}: found '.*'; allowed: a value of your own", errors, re.MULTILINE)


async def test_a_reader_that_has_enough_is_no_traceback() -> None:
    command = f"{sys.executable} -m sai_proxy check | head -1; exit ${{PIPESTATUS[0]}}"
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", command),
        cwd=ROOT,
        env=environment("http://sai"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await process.communicate()
    assert (process.returncode, out, errors) == (0, b"SAI_URL=http://sai\n", b"")


async def test_a_folder_in_place_of_the_file_is_an_error(tmp_path: Path) -> None:
    for command in ("check", "serve"):
        code, _, errors = await run(command, "--env-file", str(tmp_path))
        assert (code, errors) == (1, f"{tmp_path}: cannot be read (Is a directory)\n")


@pytest.mark.parametrize(
    ("key", "cookie", "states", "code"),
    [
        ("good", "good", ("accepted", "accepted"), 0),
        ("invalid-canary", "good", ("refused", "accepted"), 1),
        ("limited-canary", "expired-canary", ("limited", "refused"), 1),
    ],
)
async def test_credentials_are_tried_before_a_rollout(
    sai: Simulator, key: str, cookie: str, states: tuple[str, str], code: int
) -> None:
    returned, out, _ = await run("check", "--ask", **environment(sai.url, SAI_KEY=key, SAI_COOKIE=cookie))
    assert returned == code
    lines = out.splitlines()[1:]
    assert [line.split(",")[0] for line in lines] == [f"SAI_KEY: {states[0]}", f"SAI_COOKIE: {states[1]}"]
    assert len(sai.calls) == 2
    assert "canary" not in out


async def test_a_dead_sai_and_an_unknown_model_are_told() -> None:
    env = environment(f"http://127.0.0.1:{free_port()}", SAI_COOKIE="", SAI_MODELS="a,v=stream:m")
    code, out, _ = await run("check", "--ask", **env)
    assert code == 1
    assert "SAI_KEY: unreachable" in out
    code, out, _ = await run("check", "--ask", "--model", "v", **env)
    assert (code, "SAI_KEY: unused" in out) == (1, True), "nothing that could be used was accepted"
    code, _, errors = await run("check", "--ask", "--model", "nope", **env)
    assert (code, errors) == (1, "--model: found 'nope'; allowed: a, v\n")


@pytest.mark.parametrize(
    ("path", "right"),
    [
        ("/v1/v1/chat/completions", "/v1/chat/completions"),
        ("/api/v1/chat/completions", "/v1/chat/completions"),
        ("/v1/chat/completions/chat/completions", "/v1/chat/completions"),
        ("/v1/v1/responses", "/v1/responses"),
        ("/openai/models/sai-model", "/v1/models/sai-model"),
        ("/v1", "/v1/chat/completions"),
    ],
)
async def test_a_wrong_url_names_the_right_one(start_proxy: StartProxy, path: str, right: str) -> None:
    for language, word in (("en", f"Try {right}:"), ("es", f"prueba {right} ")):
        proxy = await start_proxy(MESSAGES_LANG=language)
        answer = await proxy.post({}, path=path)
        assert answer.status == 404
        assert word in answer.error["message"]


@pytest.mark.parametrize("path", ["/v1/chat/completions/", "/chat/completions/"])
async def test_a_trailing_slash_is_accepted(start_proxy: StartProxy, path: str) -> None:
    proxy = await start_proxy()
    body = {"model": "sai-model", "messages": [{"role": "user", "content": "x"}]}
    assert (await proxy.post(body, path=path)).status == 200
    assert (await proxy.get("/v1/models/")).status == 200


async def test_what_is_nobodys_gets_no_hint(start_proxy: StartProxy) -> None:
    proxy = await start_proxy()
    assert (await proxy.post({}, path="/v1/embeddings")).error["message"] == "Invalid URL (POST /v1/embeddings)"


async def test_the_log_says_who_asks_and_never_their_key(
    start_proxy: StartProxy, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    proxy = await start_proxy(TRUSTED_PROXIES="127.0.0.0/8", KEY_ID_SALT="salt")
    agent = {"User-Agent": "GitKraken/9 " + "x" * 900, "X-Forwarded-For": "203.0.113.7"}
    for key in (USER_KEY, USER_KEY, "b3RoZXIta2V5"):
        await proxy.ask(headers={"Authorization": f"Bearer {key}", **agent})
    await proxy.ask(headers=agent)
    lines = request_lines(caplog, proxy)
    assert {line["client"] for line in lines} == {"203.0.113.7"}
    assert all(line["user_agent"].startswith("GitKraken/9") and len(line["user_agent"]) == 200 for line in lines)
    mine, again, other = (line["key_id"] for line in lines[:3])
    assert (mine, len(mine)) == (again, 12)
    assert mine != other
    assert "key_id" not in lines[3]
    assert USER_KEY not in str(lines)
    assert SYSTEM_KEY not in str(lines)
    restarted = await start_proxy(KEY_ID_SALT="salt")
    await restarted.ask(headers={"Authorization": f"Bearer {USER_KEY}"})
    assert request_lines(caplog, restarted)[-1]["key_id"] == mine, "so that usage adds up over replicas and restarts"


async def test_a_refused_request_carries_what_is_known(
    start_proxy: StartProxy, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    proxy = await start_proxy(ACCESS_TOKENS="token")
    assert (await proxy.ask(stream=True)).status == 401
    line = request_lines(caplog, proxy)[-1]
    assert (line["model"], line["stream"], line["error"]) == ("sai-model", True, "invalid_api_key")
    counted = [
        line for line in (await proxy.get("/metrics")).text.splitlines() if line.startswith("sai_proxy_requests")
    ]
    assert any('code="invalid_api_key"' in line and 'model=""' in line for line in counted), "no label of a stranger's"
