"""The simulator as a server, and the record of what it was asked."""

import asyncio
import logging
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from sai_proxy.simulator import execute
from sai_proxy.simulator.accounts import Refusal, refusal_of
from sai_proxy.simulator.directives import DirectiveFault, Script, read_script
from sai_proxy.simulator.other_endpoints import add_other_endpoints

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 256 * 1024 * 1024
_ONLY_AT_FIRST = ("status", "reset", "garbage", "silence", "overflow", "cut")


@dataclass
class RecordedCall:
    """One call as it arrived. `ended` is set when its answer is out, or its caller has gone.

    completed: whether the whole answer was sent.
    """

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str] = field(repr=False)
    body: Any
    ended: asyncio.Event = field(default_factory=asyncio.Event, repr=False)
    completed: bool = False

    @property
    def key(self) -> str | None:
        return self.headers.get("X-Api-Key")

    @property
    def cookie(self) -> str | None:
        return self.headers.get("Cookie")


@dataclass
class Simulator:
    """A running simulator. url: its base URL, for SAI_URL. calls: all calls, oldest first, unless
    `recording` is off, as where it runs for long."""

    url: str = ""
    recording: bool = True
    calls: list[RecordedCall] = field(default_factory=list)
    _by_credential: "Counter[tuple[str, str]]" = field(default_factory=Counter)
    _by_text: "Counter[str]" = field(default_factory=Counter)

    async def execute(self, request: web.Request) -> web.StreamResponse:
        """One call of a template."""
        call = await self._record(request)
        try:
            response = await self._answer(request, call)
        except DirectiveFault as fault:
            response = web.Response(status=400, text=f"SAI simulator: {fault}")
        else:
            call.completed = True
        finally:
            call.ended.set()
        return response

    async def _record(self, request: web.Request) -> RecordedCall:
        headers = {name.title(): value for name, value in request.headers.items()}
        body = await request.json()
        call = RecordedCall(request.method, request.path, dict(request.query), headers, body)
        if self.recording:
            self.calls.append(call)
        kind = "key" if call.key else "cookie" if call.cookie else "none"
        logger.debug("simulated call", extra={"path": call.path, "query": call.query, "credential": kind, "body": body})
        return call

    async def _answer(self, request: web.Request, call: RecordedCall) -> web.StreamResponse:
        user_text = str((call.body.get("inputs") or {}).get("user") or "")
        script = self._script(user_text)
        await asyncio.sleep(script.seconds("silence"))
        if script.value("reset") == "before":
            raise execute.reset(request)
        refusal = self._refusal(request, call, script)
        if refusal is not None:
            return web.Response(
                status=refusal.status, text=refusal.body, content_type=refusal.content_type, headers=refusal.headers
            )
        text = execute.answer_text(script, call.body)
        model = request.query.get("modelOverride", execute.MODEL)
        headers = execute.answer_headers(script, text, model)
        body, headers["Content-Type"] = execute.answer_body(script, text, json_only=_accepts_only_json(request))
        return await execute.send(request, script, headers, body)

    def _script(self, user_text: str) -> Script:
        """The script of a text, without what `times` has used up."""
        script = read_script(user_text)
        if "times" not in script:
            return script
        self._by_text[user_text] += 1
        if self._by_text[user_text] <= script.number("times", 0):
            return script
        return Script({k: v for k, v in script.directives.items() if k not in _ONLY_AT_FIRST}, script.text)

    def _refusal(self, request: web.Request, call: RecordedCall, script: Script) -> Refusal | None:
        """Credentials first, as SAI does; a key wins over a cookie."""
        template = request.match_info["id"]
        credential = call.key or call.cookie or ""
        self._by_credential[template, credential] += 1
        refusal = refusal_of(credential, self._by_credential[template, credential])
        if refusal is None and template.startswith("404"):
            refusal = Refusal(404, "Not Found")
        if refusal is None and "unknown" in request.query.get("modelOverride", ""):
            refusal = Refusal(500, "Error executing tool: the model does not exist")
        refusal = refusal or execute.scripted_refusal(script)
        if refusal is not None and script.value("body") == "credential":
            bare = credential.partition("=")[2] or credential
            refusal = refusal._replace(body=f"no good: {credential}, {bare}")
        return refusal


def _accepts_only_json(request: web.Request) -> bool:
    accept = request.headers.get("Accept", "*/*")
    return "json" in accept and "*/*" not in accept and "text/plain" not in accept


@asynccontextmanager
async def simulator(
    host: str = "127.0.0.1", port: int = 0, *, recording: bool = True, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Simulator]:
    """A simulator that listens while the context lasts, on a free port for 0. Raises OSError."""
    sai = Simulator(recording=recording)
    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app.router.add_post("/api/templates/{id}/execute", sai.execute)
    add_other_endpoints(app)
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1, max_field_size=65_536)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, ssl_context=tls).start()
        sai.url = f"http{'s' if tls else ''}://{host}:{runner.addresses[0][1]}"
        yield sai
    finally:
        await runner.cleanup()


async def run_simulator_at(host: str, port: int) -> None:
    """Run a simulator until cancelled."""
    async with simulator(host, port, recording=False) as sai:
        logger.info("the SAI simulator is listening", extra={"sai_url": sai.url})
        await asyncio.Event().wait()
