"""A tiny application with one layer, and what the layers outside it would have left."""

import json
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from aiohttp.typedefs import Handler, Middleware

from sai_proxy.conversation.chat import ChatMessage, ChatRequest, Route
from sai_proxy.http.admission import Admission
from sai_proxy.keys import BODY, CHAT_REQUEST, HOLDING, RECORD
from sai_proxy.telemetry.record import RequestRecord

Client = TestClient[web.Request, web.Application]
StartLayer = Callable[..., Awaitable[Client]]


def chat_request(*texts: str, role: str = "user") -> ChatRequest:
    conversation = tuple(ChatMessage(role, (text,)) for text in texts)
    return ChatRequest(model="m", route=Route("t"), conversations=(conversation,))


@pytest.fixture
def start_layer(aiohttp_client: Callable[[web.Application], Awaitable[Client]]) -> StartLayer:
    """Starts an application with `layer` around `endpoint`. Failures come out as 500, named in the body."""

    async def start(
        layer: Middleware,
        endpoint: Handler,
        *,
        chat: ChatRequest | None = None,
        body_key: str | None = None,
        record: RequestRecord | None = None,
    ) -> Client:
        @web.middleware
        async def outside(request: web.Request, handler: Handler) -> web.StreamResponse:
            request[RECORD] = record or RequestRecord(started=0)
            request[HOLDING] = Admission(max_requests=10, max_bytes=1_000_000).enter()
            key = {"litellm_params": {"metadata": {"user_api_key": body_key}}}
            request[BODY] = json.dumps(key).encode()
            if chat is not None:
                request[CHAT_REQUEST] = chat
            try:
                return await handler(request)
            except Exception as exc:
                return web.Response(status=500, text=type(exc).__name__)

        app = web.Application(middlewares=[outside, layer])
        app.router.add_route("*", "/{tail:.*}", endpoint)
        return await aiohttp_client(app)

    return start


async def answer_nothing(request: web.Request) -> web.Response:
    return web.Response()
