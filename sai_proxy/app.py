"""The application: routes, the chain of layers around them, and what they share while it runs."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Literal

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

import middlewares
from sai_proxy.configuration.settings import Settings
from sai_proxy.errors import ServerStopping
from sai_proxy.http.admission import Admission
from sai_proxy.http.draining import Lifecycle
from sai_proxy.http.error_responses import SERVER_NAME
from sai_proxy.http.home_page import add_home_page
from sai_proxy.http.ids import answer_stamp, secret_stamp
from sai_proxy.http.memory_pressure import is_short_of_memory, memory_limit, return_freed_memory
from sai_proxy.http.pages import add_pages, welcome_body
from sai_proxy.keys import ACCOUNTS, ADMISSION, LIFECYCLE, LINK, METRICS, REQUEST_ID, STORE, UPSTREAM
from sai_proxy.openai_api.endpoints import Endpoint, chat_completions, completions
from sai_proxy.openai_api.failures import FailurePolicy
from sai_proxy.openai_api.fields import route_of
from sai_proxy.openai_api.kept_responses import STAMP_DIGITS
from sai_proxy.openai_api.models import listed_models, model_body, models_body
from sai_proxy.openai_api.openapi import Health
from sai_proxy.openai_api.responses_endpoint import ResponsesEndpoint
from sai_proxy.relay.handler import answer_handler
from sai_proxy.sai_api.client import SaiClient
from sai_proxy.sai_api.roads import make_roads
from sai_proxy.sai_api.sockets import tls_setting
from sai_proxy.store.opening import open_store
from sai_proxy.stored_responses import delete_response, get_response, list_input_items
from sai_proxy.telemetry.accounts import Accounts
from sai_proxy.telemetry.loop_lag import watch_loop_lag
from sai_proxy.telemetry.metrics import CONTENT_TYPE
from sai_proxy.telemetry.numbers import Snapshot
from sai_proxy.telemetry.tracing import Tracing
from sai_proxy.workers.link import Link, SharedBlobs, Unreachable

MEMORY_INTERVAL_S = 0.5
TRIM_INTERVAL_S = 2.0
"""While memory is short: returning what was freed takes some milliseconds."""

METRICS_PORT_BYTES = 1024 * 1024


def create_app(
    settings: Settings,
    *,
    answer_headers: dict[str, str] | None = None,
    tracing: Tracing | None = None,
    link: Link | None = None,
) -> web.Application:
    """answer_headers: put on every answer that does not set them itself. tracing: None for none. link: to the parent
    process, where this is one of several workers."""
    policy, accounts = failure_policy(settings), Accounts()
    app = web.Application(
        middlewares=[  # outermost first; these wrap everything, unknown URLs included
            middlewares.request_record_middleware(accounts, settings.trusted_proxies),
            *([middlewares.request_tracing_middleware(tracing)] if tracing else []),
            middlewares.request_id_middleware(),
            middlewares.error_mapping_middleware(policy),
        ],
    )
    if settings.cors_origins:
        app.middlewares.append(middlewares.cors_middleware())
        app.on_response_prepare.append(middlewares.cors_headers(settings.cors_origins))
    lifecycle = app[LIFECYCLE] = Lifecycle()
    app[ACCOUNTS] = accounts
    metrics = app[METRICS] = accounts.metrics
    if link is not None:
        app[LINK] = link
    admission = app[ADMISSION] = make_admission(settings)
    for name, route in settings.models.items():
        metrics.models.set(1, name, route.road)
    metrics.connections.read_by(lambda: admission.connections)
    metrics.requests_in_flight.read_by(lambda: admission.entered)
    metrics.held_bytes.read_by(lambda: admission.held)
    app.cleanup_ctx.append(_sai(settings, tracing))
    app.cleanup_ctx.append(_loop_watch)
    app.on_cleanup.append(_settle_accounts)
    app.on_response_prepare.append(_finish_headers(answer_headers or {}, lifecycle))

    answer = answer_handler(
        policy, lifecycle, heartbeat_s=settings.heartbeat_seconds, deadline_s=settings.request_deadline
    )
    identity_key = make_identity_key(settings)
    responses = ResponsesEndpoint(settings.models, partial(secret_stamp, STAMP_DIGITS), keeps=settings.keeps_answers)
    for endpoint in (
        chat_completions(settings.models, answer_stamp),
        completions(settings.models, answer_stamp),
        responses,
    ):
        who = _who_asks(settings, endpoint, admission, identity_key)
        handler = wrap(answer, [*who, *_what_is_asked(settings, endpoint, tracing)])
        for prefix in ("", "/v1"):
            app.router.add_post(prefix + endpoint.path, handler)
            app.router.add_post(f"{prefix}{endpoint.path}/", handler)
    if settings.keeps_answers:
        app.cleanup_ctx.append(_store(settings))
        _add_stored_responses(app, _who_asks(settings, responses, admission, identity_key))
    list_models, get_model = _model_handlers(settings)
    for prefix in ("", "/v1"):
        app.router.add_get(f"{prefix}/models", list_models)
        app.router.add_get(f"{prefix}/models/", list_models)
        app.router.add_get(f"{prefix}/models/{{id:.+}}", get_model)
    if settings.metrics_port is None:
        app.router.add_get("/metrics", get_metrics)
    add_pages(app, settings.models)
    demo = bool(answer_headers)
    add_home_page(
        app,
        welcome_body(),
        server=lambda: {"demo": demo, "models": listed_models(settings.models, settings.context_limit_tokens)},
        figures=lambda: accounts.figures(admission.requests),
        access_tokens=settings.access_tokens,
    )
    app.router.add_get("/health", _health)
    app.router.add_get("/health/liveness", _liveness)
    app.router.add_get("/health/liveliness", _liveness)  # LiteLLM's spelling, which probes were set up with
    app.router.add_get("/health/readiness", _readiness)
    return app


def failure_policy(settings: Settings) -> FailurePolicy:
    """What the operator has chosen for failures."""
    return FailurePolicy(
        settings.error_style, settings.context_overflow, settings.messages_lang, settings.stream_chunk_chars
    )


def make_admission(settings: Settings) -> Admission:
    """What all requests together may hold."""
    return Admission(
        max_requests=settings.max_concurrent_requests,
        max_bytes=settings.max_buffered_bytes,
        max_per_key=settings.max_concurrent_per_key,
        max_connections=settings.max_connections,
    )


def make_identity_key(settings: Settings) -> bytes:
    """The key of the hashes that name callers: the operator's, else one that follows from the server's own secrets,
    so that all replicas have the same."""
    own = [c.value for c in (settings.system_key, settings.system_cookie) if c] + sorted(settings.access_tokens)
    secrets = [settings.key_id_salt] if settings.key_id_salt else own
    return hashlib.blake2b("\0".join(secrets).encode(), person=b"sai-proxy caller").digest()


def _who_asks(settings: Settings, endpoint: Endpoint, admission: Admission, identity_key: bytes) -> list[Middleware]:
    """The layers around everything that SAI, or somebody's answers, are asked for, outermost first: whether there is
    room, what was sent, by whom."""
    return [
        middlewares.admission_middleware(admission, settings.cors_origins),
        middlewares.request_body_middleware(
            endpoint, max_bytes=settings.max_body_bytes, timeout_s=settings.body_timeout
        ),
        middlewares.auth_resolution_middleware(
            system_key=settings.system_key,
            system_cookie=settings.system_cookie,
            access_tokens=settings.access_tokens,
            placeholders=settings.placeholder_keys,
            name_holders=settings.max_concurrent_per_key is not None,
            identity_key=identity_key,
        ),
    ]


def _what_is_asked(settings: Settings, endpoint: Endpoint, tracing: Tracing | None) -> list[Middleware]:
    """The layers of what asks SAI, further in, outermost first."""
    return [
        *([middlewares.answer_store_middleware(endpoint)] if endpoint.keeps else []),
        middlewares.chat_body_middleware(endpoint),
        *([middlewares.ide_unwrap_middleware()] if settings.ide_unwrap else []),
        middlewares.tool_prompting_middleware(),
        middlewares.context_length_middleware(settings.context_limit_tokens),
        *([middlewares.inference_tracing_middleware(tracing, endpoint.operation)] if tracing else []),
    ]


def wrap(handler: Handler, layers: Sequence[Middleware]) -> Handler:
    """`handler` inside `layers`, for its routes alone: health, models and 404s never pass them, and
    no layer has to look at paths."""
    for layer in reversed(layers):
        handler = partial(layer, handler=handler)
    return handler


def _sai(settings: Settings, tracing: Tracing | None) -> Callable[[web.Application], AsyncIterator[None]]:
    async def connection_to_sai(app: web.Application) -> AsyncIterator[None]:
        client = SaiClient(
            settings.sai_url,
            request_timeout_s=settings.request_timeout,
            connect_timeout_s=settings.sai_connect_timeout,
            idle_timeout_s=settings.stream_idle_timeout,
            max_retries=settings.max_retries,
            retry_statuses=settings.retry_statuses,
            max_answer_bytes=settings.max_answer_bytes,
            roads=make_roads(settings.sai_template_inputs),
            targets={route.name for route in settings.models.values()},
            tls=tls_setting(verify=settings.sai_tls_verify, ca_file=settings.sai_ca_file),
            tracing=tracing,
        )
        app[UPSTREAM] = client
        metrics = app[METRICS]
        metrics.open_circuits.read_by(lambda: len(client.open_circuits))
        metrics.resting_credentials.read_by(lambda: len(client.rests))
        yield
        await client.close()

    return connection_to_sai


def _store(settings: Settings) -> Callable[[web.Application], AsyncIterator[None]]:
    async def answer_store(app: web.Application) -> AsyncIterator[None]:
        metrics = app[METRICS]
        store = app[STORE] = open_store(
            settings.responses_store,
            shared=SharedBlobs(app[LINK]) if LINK in app else None,
            max_bytes=settings.responses_store_bytes,
            expiry_s=settings.responses_store_seconds,
            now=asyncio.get_running_loop().time,
            on_use=metrics.kept_answer,
        )
        metrics.kept_bytes.read_by(lambda: store.held_bytes)
        yield
        await store.close()

    return answer_store


def _add_stored_responses(app: web.Application, layers: Sequence[Middleware]) -> None:
    for prefix in ("", "/v1"):
        for path in (f"{prefix}/responses/{{id}}", f"{prefix}/responses/{{id}}/input_items"):
            handler = list_input_items if path.endswith("items") else get_response
            app.router.add_get(path, wrap(handler, layers), allow_head=False)
        app.router.add_delete(f"{prefix}/responses/{{id}}", wrap(delete_response, layers))


async def _loop_watch(app: web.Application) -> AsyncIterator[None]:
    watching = asyncio.create_task(watch_loop_lag(app[METRICS].loop_lag))
    memory = asyncio.create_task(_watch_memory(app[ADMISSION]))
    yield
    watching.cancel()
    memory.cancel()


async def _settle_accounts(app: web.Application) -> None:
    app[ACCOUNTS].settle()


async def _watch_memory(admission: Admission) -> None:
    limit = memory_limit()
    while limit is not None:
        admission.under_pressure = is_short_of_memory(limit)
        if admission.under_pressure:
            await asyncio.to_thread(return_freed_memory)
            admission.under_pressure = is_short_of_memory(limit)
        await asyncio.sleep(TRIM_INTERVAL_S if admission.under_pressure else MEMORY_INTERVAL_S)


def metrics_app(main: web.Application) -> web.Application:
    """An application with nothing but the `/metrics` of `main`, for a port of its own."""
    app = web.Application()
    app[METRICS], app[LIFECYCLE] = main[METRICS], main[LIFECYCLE]
    if LINK in main:
        app[LINK] = main[LINK]
    app[ADMISSION] = Admission(max_requests=100, max_bytes=METRICS_PORT_BYTES, max_connections=100)
    app.on_response_prepare.append(_finish_headers({}, main[LIFECYCLE]))
    app.router.add_get("/metrics", get_metrics)
    return app


async def get_metrics(request: web.Request) -> web.Response:
    """Prometheus' text format: of all workers together, where there are several."""
    metrics, link, of_all = request.app[METRICS], request.app.get(LINK), None
    if link is not None:
        try:
            of_all = Snapshot.decode(await link.all_numbers(metrics.numbers.snapshot().encode()))
        except Unreachable as exc:  # this worker's alone would look as if all had begun anew
            raise ServerStopping(retry_after_s=1) from exc
    return web.Response(body=metrics.render(of_all), headers={"Content-Type": CONTENT_TYPE})


def _finish_headers(
    always: dict[str, str], lifecycle: Lifecycle
) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    async def finish_headers(request: web.Request, response: web.StreamResponse) -> None:
        headers = response.headers
        try:  # noqa: SIM105 (a context costs more)
            headers["x-request-id"] = request[REQUEST_ID]
        except KeyError:
            pass  # aiohttp has refused it before any middleware
        headers["Server"] = SERVER_NAME
        for name, value in always.items():
            headers.setdefault(name, value)
        if lifecycle.draining:
            response.force_close()
            headers["Connection"] = "close"  # this signal comes after aiohttp has set its own

    return finish_headers


def _model_handlers(settings: Settings) -> tuple[Handler, Handler]:
    created, context_length = int(time.time()), settings.context_limit_tokens
    listing = models_body(settings.models, created, context_length)
    for_codex = models_body(settings.models, created, context_length, for_codex=True)

    async def list_models(request: web.Request) -> web.Response:
        body = for_codex if "client_version" in request.query else listing
        return web.Response(body=body, content_type="application/json")

    async def get_model(request: web.Request) -> web.Response:
        name = request.match_info["id"]
        body = model_body(name, route_of(name, settings.models), created, context_length)
        return web.Response(body=body, content_type="application/json")

    return list_models, get_model


def _health_response(health: Health, code: int = 200) -> web.Response:
    return web.Response(status=code, body=msgspec.json.encode(health), content_type="application/json")


async def _health(_: web.Request) -> web.Response:
    return _health_response(Health("healthy"))


async def _liveness(_: web.Request) -> web.Response:
    return _health_response(Health("alive"))


async def _readiness(request: web.Request) -> web.Response:
    """SAI's state, and the store's, are in the body alone: one outage of theirs must not make the balancer drop
    every replica."""
    app = request.app
    if app[LIFECYCLE].draining:
        return _health_response(Health("draining"), 503)
    health = Health("ready", sai=_ok(failing=bool(app[UPSTREAM].open_circuits)))
    if STORE in app:
        health.store = _ok(failing=app[STORE].failing)
    return _health_response(health)


def _ok(*, failing: bool) -> Literal["ok", "failing"]:
    return "failing" if failing else "ok"
