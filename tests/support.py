"""What many tests need: a running proxy, a reader of event streams, the contract's schemas."""

import asyncio
import contextlib
import io
import itertools
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import aiohttp
import jsonschema
import pytest
from aiohttp import web

from sai_proxy.app import create_app, failure_policy
from sai_proxy.configuration.environment import read_settings
from sai_proxy.http.draining import Lifecycle
from sai_proxy.keys import ACCOUNTS, LIFECYCLE
from sai_proxy.server import serve
from sai_proxy.simulator import Simulator
from sai_proxy.telemetry.request_line import RequestLogRecord

ROOT = Path(__file__).parents[1]
SCHEMAS = ROOT / "tests" / "schemas"

USER_KEY = "dXNlci1rZXktb2YtdGVzdHM"
SYSTEM_KEY = "c3lzdGVtLWtleS1vZi10ZXN0cw"
SYSTEM_COOKIE = ".AspNetCore.Cookies=system-cookie-of-tests"
TEMPLATE = "aaaaaaaaaaaaaaaaaaaaaaaa"


def environment(sai_url: str, **changes: str) -> dict[str, str]:
    """A complete environment; `changes` replace or add variables, empty ones unset them."""
    return {
        "SAI_URL": sai_url,
        "SAI_TEMPLATE_ID": TEMPLATE,
        "SAI_KEY": SYSTEM_KEY,
        "SAI_COOKIE": SYSTEM_COOKIE,
        "MAX_RETRIES": "0",
        "MESSAGES_LANG": "en",
        **changes,
    }


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """What a record has to say; a request's line, as it is written."""
    return record.line.shown() if isinstance(record, RequestLogRecord) else vars(record)


def request_lines(caplog: pytest.LogCaptureFixture, *proxies: "Proxy") -> list[dict[str, Any]]:
    """The log lines of requests: of all that have ended at these."""
    for proxy in proxies:
        proxy.app[ACCOUNTS].settle()
    return [fields_of(record) for record in caplog.records if isinstance(record, RequestLogRecord)]


def chat(text: str = "Hello", **fields: Any) -> dict[str, Any]:
    """A request body with one user message."""
    return {"model": "sai-model", "messages": [{"role": "user", "content": text}], **fields}


@dataclass
class Answer:
    """A response, read to its end."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def error(self) -> dict[str, Any]:
        error: dict[str, Any] = self.json["error"]
        return error

    @property
    def content(self) -> str:
        return str(self.json["choices"][0]["message"]["content"])

    @property
    def events(self) -> list[Any]:
        return read_events(self.text)


def read_events(stream: str) -> list[Any]:
    """The events of a stream, decoded; `[DONE]` stays text. Fails on anything but our narrow framing."""
    events: list[Any] = []
    while stream.startswith(": keep-alive\n"):
        stream = stream.removeprefix(": keep-alive\n")
    *blocks, rest = stream.split("\n\n")
    assert rest == "", f"the last event is not ended: {rest!r}"
    for block in blocks:
        while block.startswith(": keep-alive\n"):
            block = block.removeprefix(": keep-alive\n")
        assert block.startswith("data: "), block
        assert "\n" not in block, block
        data = block.removeprefix("data: ")
        events.append(data if data == "[DONE]" else json.loads(data))
    return events


def read_typed_events(stream: str) -> list[Any]:
    """The events of a Responses stream, decoded; comments are left out. Fails on anything but our framing, on a type
    that is not in the `event:` line, and on numbers that do not count from 0."""
    *blocks, rest = stream.split("\n\n")
    assert rest == "", f"the last event is not ended: {rest!r}"
    events: list[Any] = []
    for block in blocks:
        while block.startswith(": keep-alive\n"):
            block = block.removeprefix(": keep-alive\n")
        kind, data = block.split("\n")
        events.append(json.loads(data.removeprefix("data: ")))
        assert kind == f"event: {events[-1]['type']}"
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return events


def content_of(events: list[Any]) -> str:
    """The text of choice 0 in a stream's events."""
    return "".join(
        choice["delta"].get("content", "")
        for event in events
        if event != "[DONE]" and "choices" in event
        for choice in event["choices"]
        if choice["index"] == 0
    )


@dataclass
class Proxy:
    """A running proxy. app: its application, an empty one if it runs in another process."""

    url: str
    session: aiohttp.ClientSession
    lifecycle: Lifecycle
    app: web.Application = field(default_factory=web.Application)

    async def post(
        self, body: Any, *, path: str = "/v1/chat/completions", headers: Mapping[str, str] | None = None
    ) -> Answer:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **(headers or {})}
        async with self.session.post(self.url + path, data=io.BytesIO(data), headers=headers) as response:
            return Answer(response.status, response.headers.copy(), await response.text())

    async def ask(self, text: str = "Hello", *, headers: Mapping[str, str] | None = None, **fields: Any) -> Answer:
        """Ask one user message."""
        return await self.post(chat(text, **fields), headers=headers)

    async def get(self, path: str, *, method: str = "GET") -> Answer:
        async with self.session.request(method, self.url + path) as response:
            return Answer(response.status, response.headers.copy(), await response.text())


@asynccontextmanager
async def running_proxy(sai: Simulator | str, **changes: str) -> AsyncIterator[Proxy]:
    """A proxy over real sockets, configured by environment variables, in front of `sai`."""
    settings = read_settings(environment(sai if isinstance(sai, str) else sai.url, **changes))
    app = create_app(settings)
    policy = failure_policy(settings)
    async with (
        serve(
            app,
            "127.0.0.1",
            0,
            policy=policy,
            shutdown_timeout_s=settings.shutdown_timeout,
            write_timeout_s=settings.write_timeout,
        ) as port,
        aiohttp.ClientSession() as session,
    ):
        yield Proxy(f"http://127.0.0.1:{port}", session, app[LIFECYCLE], app)


async def until(condition: Callable[[], object], timeout_s: float = 10) -> None:
    """Returns when `condition` holds. For states that no event announces."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.005)


def check_schema(name: str, value: Any) -> None:
    """Check `value` against a schema of OpenAI's answers: one of `tests/schemas`."""
    _validator(name).validate(value)


@cache
def _validator(name: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json.loads((SCHEMAS / f"{name}.json").read_text()))


@dataclass
class Process:
    """The proxy as a process of its own. `log` grows as it speaks."""

    proxy: Proxy
    pid: int
    log: list[str]
    _process: asyncio.subprocess.Process

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log]

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    async def wait(self) -> int:
        """The exit code."""
        return await asyncio.wait_for(self._process.wait(), 30)

    async def stop(self) -> str:
        """Ends it, if it still runs, and returns all that it wrote."""
        if self._process.returncode is None:
            self.signal(signal.SIGTERM)
        await self.wait()
        assert self._process.stderr is not None
        errors = (await self._process.stderr.read()).decode()
        return "".join(self.log) + errors


_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_ports = itertools.cycle(range(20_000 + 4_000 * (_WORKER % 3), 24_000 + 4_000 * (_WORKER % 3)))


def free_port() -> int:
    """A port that nobody listens on, below those that the system gives out. Each worker of a run has ports of its
    own: a process that another one's request reaches would count that as its own."""
    for port in _ports:
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port
    raise AssertionError("unreachable")


@asynccontextmanager
async def running_process(env: Mapping[str, str], *arguments: str) -> AsyncIterator[Process]:
    """`python -m sai_proxy serve` with this environment, ready for requests."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "sai_proxy", "serve", *arguments),
        cwd=ROOT,
        env={"HOST": "127.0.0.1", "PORT": str(port), **env},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=2**24,
    )
    stdout = process.stdout
    assert stdout is not None
    log: list[str] = []

    async def read_log() -> None:
        while line := await stdout.readline():
            log.append(line.decode())

    reading = asyncio.ensure_future(read_log())
    try:
        await until(lambda: process.returncode is not None or any('"listening"' in line for line in log))
        async with aiohttp.ClientSession() as session:
            yield Process(Proxy(f"http://127.0.0.1:{port}", session, Lifecycle()), process.pid, log, process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await reading
