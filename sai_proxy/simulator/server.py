"""The simulator as a server, and the record of what it was asked."""

import asyncio
import logging
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from sai_proxy.simulator import execute, other_endpoints
from sai_proxy.simulator.accounts import LOGIN_REDIRECT, Refusal, refusal_of
from sai_proxy.simulator.directives import DirectiveFault, Script, read_script

logger = logging.getLogger(__name__)

Answer = Callable[[web.Request, Script, Any], Awaitable[web.StreamResponse]]
"""How an endpoint answers a body, as its script wants."""

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
    `recording` is off, as where it runs for long. pace_s: between the words of answers to texts without directives,
    so that a demo is seen to stream; 0 for none."""

    url: str = ""
    recording: bool = True
    pace_s: float = 0
    calls: list[RecordedCall] = field(default_factory=list)
    _by_credential: "Counter[tuple[str, str]]" = field(default_factory=Counter)
    _by_text: "Counter[str]" = field(default_factory=Counter)

    async def execute(self, request: web.Request) -> web.StreamResponse:
        """One call of a template."""

        def user_text(body: Any) -> str:
            return str((body.get("inputs") or {}).get("user") or "")

        async def answer(request: web.Request, script: Script, body: Any) -> web.StreamResponse:
            text = execute.answer_text(script, body)
            model = request.query.get("modelOverride", execute.MODEL)
            headers = execute.answer_headers(script, text, model)
            data, headers["Content-Type"] = execute.answer_body(script, text, json_only=_accepts_only_json(request))
            return await execute.send(request, script, headers, data)

        return await self._serve(request, user_text, answer)

    def other(self, answer: Answer, *, takes: str) -> Handler:
        """A handler for another endpoint, which lets only a key or a cookie in, as `takes` says, and shows all others
        the way to the login page."""

        async def handle(request: web.Request) -> web.StreamResponse:
            return await self._serve(request, other_endpoints.text_of_messages, answer, takes=takes)

        return handle

    async def _serve(
        self, request: web.Request, user_text: Callable[[Any], str], answer: Answer, *, takes: str | None = None
    ) -> web.StreamResponse:
        call = await self._record(request)
        try:
            script = self._script(user_text(call.body))
            await asyncio.sleep(script.seconds("silence"))
            if script.value("reset") == "before":
                raise execute.reset(request)
            credential = {"key": call.key, "cookie": call.cookie, None: call.key or call.cookie}[takes] or ""
            refusal = self._refusal(request, credential, script)
            if takes and refusal is not None and refusal.status == 401 and "status" not in script:
                refusal = LOGIN_REDIRECT
            if refusal is not None:
                response: web.StreamResponse = web.Response(
                    status=refusal.status, text=refusal.body, content_type=refusal.content_type, headers=refusal.headers
                )
            else:
                response = await answer(request, script, call.body)
                call.completed = True
        except DirectiveFault as fault:
            response = web.Response(status=400, text=f"SAI simulator: {fault}")
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

    def _script(self, user_text: str) -> Script:
        """The script of a text, without what `times` has used up."""
        script = read_script(user_text)
        if self.pace_s and not script.directives:
            return Script(
                {"delay": f"{self.pace_s:g}", "pieces": str(max(len(script.text.split()) + 3, 6))}, script.text
            )
        if "times" not in script:
            return script
        self._by_text[user_text] += 1
        if self._by_text[user_text] <= script.number("times", 0):
            return script
        return Script({k: v for k, v in script.directives.items() if k not in _ONLY_AT_FIRST}, script.text)

    def _refusal(self, request: web.Request, credential: str, script: Script) -> Refusal | None:
        """Credentials first, as SAI does; a key wins over a cookie."""
        template = request.match_info.get("id", request.path)
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
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    recording: bool = True,
    pace_s: float = 0,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Simulator]:
    """A simulator that listens while the context lasts, on a free port for 0. Raises OSError."""
    sai = Simulator(recording=recording, pace_s=pace_s)
    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app.router.add_post("/api/templates/{id}/execute", sai.execute)
    app.router.add_post("/api/templates/{id}/chatexecute", sai.other(other_endpoints.chat_execute, takes="cookie"))
    streamed = sai.other(other_endpoints.streaming_responses, takes="cookie")
    app.router.add_post("/api/streaming-responses/stream", streamed)
    app.router.add_post("/api/prompt/v1/chat/completions", sai.other(other_endpoints.prompt, takes="key"))
    app.router.add_post("/api/mcp", other_endpoints.mcp)
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
