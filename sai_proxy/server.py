"""The HTTP server around the application: sockets, aiohttp's limits, and stopping without loss."""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar

from aiohttp import http_parser, web
from aiohttp.web_protocol import RequestHandler

from middlewares.request_id import choose_request_id
from sai_proxy import errors
from sai_proxy.http.draining import Lifecycle
from sai_proxy.http.error_responses import SERVER_NAME, error_response, from_http_exception
from sai_proxy.keys import LIFECYCLE
from sai_proxy.openai_api.failures import FailurePolicy
from sai_proxy.sai_api.sockets import enable_tcp_keepalive

logger = logging.getLogger(__name__)

MAX_HEADER_BYTES = 48 * 1024
"""A session cookie can reach 32 KiB, and aiohttp's default of 8 KiB would refuse it."""

KEEPALIVE_TIMEOUT_S = 75
"""Also the deadline for a request's headers. Above the 60 s after which common load balancers drop
an idle connection, so that they, not this server, decide."""

MIN_FLUSH_S = 1.0
"""For last events to reach their clients."""

LINGERING_TIME_S = 5
"""How long the rest of a refused body is read away, so that its client gets to read the refusal."""


class ProxyProtocol(RequestHandler):
    """One connection, on which even what aiohttp refuses before any middleware (malformed HTTP, an
    unmet expectation) is answered in OpenAI's error form and without echoing what was sent."""

    policy = FailurePolicy()
    always: ClassVar[dict[str, str]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if (sock := transport.get_extra_info("socket")) is not None:
            enable_tcp_keepalive(sock)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if status < 500:
            failure: errors.ProxyError = errors.MalformedHttp(detail=type(exc).__name__)
        else:
            logger.error("unexpected error outside the application", exc_info=exc)
            failure = errors.InternalError()
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has already begun")
        return self._refusal(request, failure)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        if isinstance(resp, web.HTTPException):
            resp = self._refusal(request, from_http_exception(resp, request))
        return await super().finish_response(request, resp, start_time)

    def _refusal(self, request: web.BaseRequest, failure: errors.ProxyError) -> web.Response:
        response = error_response(self.policy.form(failure))
        request_id = choose_request_id(request)
        response.headers.update({"x-request-id": request_id, "Server": SERVER_NAME, **self.always})
        logger.warning(
            "refused before any layer",
            extra={
                "request_id": request_id,
                "client": request.remote,
                "status": response.status,
                "detail": failure.detail,
            },
        )
        response.force_close()
        return response


@asynccontextmanager
async def serve(
    app: web.Application,
    host: str,
    port: int,
    *,
    policy: FailurePolicy = FailurePolicy(),  # noqa: B008 (immutable)
    answer_headers: dict[str, str] | None = None,
    shutdown_timeout_s: float = 30,
) -> AsyncIterator[int]:
    """Serve `app` while the context lasts, and yield the port (a free one is chosen for 0).

    Leaving it stops listening, gives running answers `shutdown_timeout_s`, and tells the clients of
    those that are still not done.
    """
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=1)
    await runner.setup()
    manager = runner.server
    assert manager is not None
    protocol = type("Protocol", (ProxyProtocol,), {"policy": policy, "always": answer_headers or {}})

    def connection() -> Any:
        return protocol(
            manager,
            loop=asyncio.get_running_loop(),
            access_log=None,
            keepalive_timeout=KEEPALIVE_TIMEOUT_S,
            lingering_time=LINGERING_TIME_S,
            max_line_size=MAX_HEADER_BYTES,
            max_field_size=MAX_HEADER_BYTES,
            auto_decompress=False,  # compressed bodies are refused, not inflated
        )

    try:
        server = await asyncio.get_running_loop().create_server(connection, host, port, backlog=1024)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            await _finish_answers(app[LIFECYCLE], manager, shutdown_timeout_s)
    finally:
        await runner.cleanup()


async def _finish_answers(lifecycle: Lifecycle, manager: web.Server, timeout_s: float) -> None:
    """Give what is running its time: first to be asked and answered, then to be read."""
    loop = asyncio.get_running_loop()
    lifecycle.draining = True
    deadline = loop.time() + timeout_s
    await lifecycle.wait_idle(timeout_s)
    if late := await lifecycle.expire():
        logger.warning("answers ended by the shutdown", extra={"answers": late})
    manager.pre_shutdown()  # ends idle connections
    await manager.shutdown(max(deadline - loop.time(), MIN_FLUSH_S))


async def serve_until_stopped(
    app: web.Application, host: str, port: int, *, drain_delay_s: float, announce: Any, **options: Any
) -> None:
    """Serve until SIGTERM or SIGINT.

    The first one turns readiness off, and `drain_delay_s` later the listener: balancers route to a
    stopping task for a moment. The second one ends the process at once.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal(received: signal.Signals) -> None:
        if stop.is_set():
            logger.warning(
                "second signal, ending at once",
                extra={"signal": received.name, "cut_answers": app[LIFECYCLE].answering},
            )
            for handler in logging.getLogger().handlers:
                handler.flush()
            signal.signal(received, signal.SIG_DFL)
            signal.raise_signal(received)
        lifecycle = app[LIFECYCLE]
        logger.info(
            "stopping; a second signal ends at once",
            extra={
                "signal": received.name,
                "running_answers": lifecycle.answering,
                "drain_delay_s": drain_delay_s,
                "shutdown_timeout_s": options.get("shutdown_timeout_s"),
            },
        )
        lifecycle.draining = True
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    async with serve(app, host, port, **options) as bound_port:
        announce(bound_port)
        await stop.wait()
        await asyncio.sleep(drain_delay_s)
    logger.info("stopped")


def has_c_parser() -> bool:
    """Whether aiohttp parses HTTP with its C parser; the Python one reads some requests differently."""
    return bool(http_parser.HttpRequestParser is not http_parser.HttpRequestParserPy)
