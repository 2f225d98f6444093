"""A SAI that plays a model which uses tools: what it answers depends on the conversation alone, since agents
send further requests (titles, summaries, repetitions) in no fixed order."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

Script = Callable[[str, str], str]
"""From SAI's `system` input and the whole conversation as text, to what the model says."""


@dataclass
class ScriptedSai:
    """url: for SAI_URL. usage: whether it counts tokens, the same each time; else the proxy estimates them. asked: the
    bodies of all calls, oldest first."""

    script: Script
    usage: bool = True
    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.asked.append(body)
        history = "\n".join(str(message["content"]) for message in body.get("chatMessages", ()))
        text = self.script(body["inputs"]["system"], history)
        counts = {"prompttokens": "100", "completiontokens": "20"} if self.usage else {}
        return web.Response(text=text, headers={**counts, "model": "scripted"})


@asynccontextmanager
async def scripted_sai(script: Script, *, usage: bool = True) -> AsyncIterator[ScriptedSai]:
    """Listens while the context lasts."""
    sai = ScriptedSai(script, usage)
    app = web.Application(client_max_size=2**26)
    app.router.add_post("/api/templates/{id}/execute", sai.answer)
    server = TestServer(app)
    await server.start_server()
    sai.url = str(server.make_url("")).rstrip("/")
    try:
        yield sai
    finally:
        await server.close()
