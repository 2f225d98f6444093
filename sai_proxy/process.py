"""The process: settings, logging, the event loop, and the server or the simulator in it."""

import asyncio
import errno
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import uvloop
from aiohttp import web
from msgspec.structs import replace

from sai_proxy import __version__
from sai_proxy.app import create_app, failure_policy, metrics_app
from sai_proxy.configuration.environment import read_settings
from sai_proxy.configuration.settings import Settings
from sai_proxy.keys import LINK, METRICS
from sai_proxy.server import has_c_parser, serve, serve_until_stopped
from sai_proxy.simulator import run_simulator_at, simulator
from sai_proxy.store.memory import MemoryBlobs
from sai_proxy.telemetry.host import name_worker
from sai_proxy.telemetry.logs import configure_logging, shows_text
from sai_proxy.telemetry.tracing import Tracing, TracingUnavailableError, make_tracing
from sai_proxy.workers.link import Link, connect
from sai_proxy.workers.messages import ENDS_AT_ONCE
from sai_proxy.workers.supervisor import Supervisor, WorkerFault, worker_command

logger = logging.getLogger(__name__)

DEMO_PACE_S = 0.06
"""Between two pieces of a demo's answer, so that it is seen to stream."""

SIMULATOR_MODEL = "simulator"
_SAI_VARIABLES = {"SAI_URL", "SAI_TEMPLATE_ID", "SAI_KEY", "SAI_KEY_FILE", "SAI_COOKIE", "SAI_COOKIE_FILE"}
COLLECTED_AFTER = 5_000
"""Objects that are made and not let go, before the garbage collector looks at them."""

_DEMO_MODELS = "sai-model,charla=chat:aaaaaaaaaaaaaaaaaaaaaaaa,vivo=stream:claude-sonnet-4-6,nativo=prompt:gpt-4o"
"""One of each road, unless the environment names others."""

_NOT_IN_DEMO = {*_SAI_VARIABLES, "WORKERS"}
"""A demo has a SAI of its own, and is one process."""

_DEMO = {"SAI_TEMPLATE_ID": "aaaaaaaaaaaaaaaaaaaaaaaa", "SAI_KEY": "demo-key", "SAI_COOKIE": "demo-cookie"}


class StartFault(Exception):
    """The server could not start, for a reason outside its configuration."""


def run_server(environ: Mapping[str, str], *, demo: bool = False, arguments: Sequence[str] = ("serve",)) -> None:
    """Serve until stopped. Raises ConfigurationFault or StartFault, each in plain lines. arguments: of this program's
    command line, by which it starts its workers. A demo is one process."""
    if not demo:
        settings = read_settings(environ)
        _check_port(settings.host, settings.port)
        if settings.workers == 1:
            _run(_serve(settings), settings)
        else:
            _run(_supervise(settings, arguments), settings, asyncio.run)
        return
    # Where the simulator listens is known only later; all else is checked before anything starts.
    ignored = sorted(_NOT_IN_DEMO & environ.keys())
    demo_environ = {
        "SAI_MODELS": _DEMO_MODELS,
        **{name: value for name, value in environ.items() if name not in ignored},
        **_DEMO,
    }
    settings = read_settings({**demo_environ, "SAI_URL": "http://127.0.0.1:1"})
    _check_port(settings.host, settings.port)
    _run(_serve_demo(demo_environ, ignored), settings)


def run_worker(environ: Mapping[str, str], number: int, parent: int) -> None:
    """Serve as one of several, until stopped. parent: the descriptor of the way to it. Raises as `run_server` does."""
    settings = read_settings(environ)
    name_worker(number)
    if settings.log_file is not None:  # a file that two rotate loses lines
        path = Path(settings.log_file)
        settings = replace(settings, log_file=str(path.with_name(f"{path.stem}-{number}{path.suffix}")))
    _run(_serve_as_worker(settings, parent), settings, shared=True)


def run_simulator(host: str, port: int) -> None:
    """Serve the simulator alone, until stopped. Raises StartFault."""
    stop_logging = configure_logging(verbose=True)
    try:
        uvloop.run(run_simulator_at(host, port))
    except OSError as exc:
        raise StartFault(f"cannot listen on {host}:{port}: {exc.strerror}") from exc
    except KeyboardInterrupt:
        pass
    finally:
        _end_logging(stop_logging)


def _end_logging(stop_logging: Callable[[], bool]) -> None:
    """Ends the process too if its standard output is stuck: the interpreter would wait for it."""
    if not stop_logging():
        fault = sys.exception()
        if fault is not None:
            sys.stderr.write(f"{fault}\n")
        os._exit(1 if fault else 0)


def _check_port(host: str, port: int) -> None:
    """Raises StartFault if somebody listens there already: in one line, before any other."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((host, port))
    except OSError as exc:
        if exc.errno == errno.EADDRINUSE:
            raise StartFault(
                f"port {port} is taken: another program, or this one, listens there. "
                f"Choose another: PORT={port + 1} make run"
            ) from exc  # anything else is told when it is really tried


def _run(
    main: Coroutine[Any, Any, None],
    settings: Settings,
    run: Callable[[Coroutine[Any, Any, None]], None] = uvloop.run,
    *,
    shared: bool = False,
) -> None:
    """shared: standard output is other processes', too."""
    stop_logging = configure_logging(
        verbose=settings.verbose_logging,
        log_file=settings.log_file,
        log_format=settings.log_format,
        shared=shared or settings.workers > 1,
    )
    try:
        run(main)
    except OSError as exc:
        ports = f"{settings.port}" + (f" or {settings.metrics_port}" if settings.metrics_port else "")
        raise StartFault(f"cannot listen on {settings.host}:{ports}: {exc.strerror or exc}") from exc
    finally:
        _end_logging(stop_logging)


async def _serve_demo(environ: Mapping[str, str], ignored: list[str]) -> None:
    async with simulator(recording=False, pace_s=DEMO_PACE_S) as sai:
        settings = read_settings({**environ, "SAI_URL": sai.url})
        if ignored or not shows_text(settings.log_format):  # else the banner says it
            logger.warning(
                "DEMO: every answer comes from the built-in SAI simulator, none from SAI",
                extra={"simulator": sai.url, "ignored_variables": ignored},
            )
        await _serve(settings, {"x-sai-model": SIMULATOR_MODEL}, demo=True)


async def _supervise(settings: Settings, arguments: Sequence[str]) -> None:
    """The parent of several workers. Raises StartFault."""
    _warn_of_risks(settings)
    blobs = MemoryBlobs(
        max_bytes=settings.responses_store_bytes, expiry_s=settings.responses_store_seconds, now=monotonic
    )
    stop_s = settings.drain_delay + settings.shutdown_timeout
    supervisor = Supervisor(settings.workers, worker_command(arguments), blobs, stop_s=stop_s)
    try:
        await supervisor.run(partial(_announce, settings, settings.port, workers=settings.workers))
    except WorkerFault:
        raise StartFault("a worker could not start: see above") from None
    logger.info("stopped")


async def _serve_as_worker(settings: Settings, parent: int) -> None:
    link = await connect(parent)
    try:
        await _serve(settings, link=link)
    finally:
        await link.close()


def _announce(settings: Settings, port: int, **more: object) -> None:
    shown = "localhost" if settings.host in ("0.0.0.0", "::") else settings.host
    logger.info(
        "listening",
        extra={
            "version": __version__,
            "base_url": f"http://{shown}:{port}/v1",
            "models": list(settings.models),
            "sai_url": settings.sai_url,
            **more,
        },
    )


async def _serve(
    settings: Settings,
    answer_headers: dict[str, str] | None = None,
    *,
    demo: bool = False,
    link: Link | None = None,
) -> None:
    """link: to the parent, which says for all workers what concerns all of them."""
    if not (demo or link):  # a demo has no credentials to lose
        _warn_of_risks(settings)
    tracing = _tracing(settings)
    app = create_app(settings, answer_headers=answer_headers, tracing=tracing, link=link)
    _spare_the_collector()

    def announce(port: int) -> None:
        if link is None:
            _announce(settings, port, **({"demo": True} if demo else {}))
            return
        link.tell_numbers(lambda: app[METRICS].numbers.snapshot().encode())
        link.ready()

    async with _metrics_port(settings, app):
        await serve_until_stopped(
            app,
            settings.host,
            settings.port,
            drain_delay_s=settings.drain_delay,
            shutdown_timeout_s=settings.shutdown_timeout,
            write_timeout_s=settings.write_timeout,
            policy=failure_policy(settings),
            answer_headers=answer_headers,
            announce=announce,
            ending=(signal.SIGTERM, signal.SIGINT) if link is None else (ENDS_AT_ONCE,),
            shares_port=link is not None,
        )
    if tracing is not None:
        await tracing.close()


def _spare_the_collector() -> None:
    """Python's garbage collector need not look at what stays for good, nor at what lives for one request: some
    hundred objects, of which it would see each again and again. Worth a thirtieth of a request."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECTED_AFTER, 10, 10)


def _tracing(settings: Settings) -> Tracing | None:
    if settings.otel_exporter_otlp_endpoint is None:
        return None
    try:
        return make_tracing(settings.otel_exporter_otlp_endpoint, settings.sai_url)
    except TracingUnavailableError as exc:
        logger.warning("no traces: sai-proxy[otel] is not installed", extra={"detail": str(exc)})
        return None


@asynccontextmanager
async def _metrics_port(settings: Settings, app: web.Application) -> AsyncIterator[None]:
    if settings.metrics_port is None:
        yield
        return
    async with serve(
        metrics_app(app),
        settings.host,
        settings.metrics_port,
        policy=failure_policy(settings),
        shares_port=LINK in app,
    ):
        yield


def _warn_of_risks(settings: Settings) -> None:
    if not settings.access_tokens:
        logger.warning("ACCESS_TOKENS is not set: whoever reaches this server uses SAI with the system's credentials")
    if not settings.sai_tls_verify:
        logger.warning("SAI_TLS_VERIFY is false: whoever stands between this server and SAI can read all of it")
    if not has_c_parser():
        logger.warning(
            "aiohttp's C parser is missing: HTTP is parsed by slower code that reads some requests differently"
        )
