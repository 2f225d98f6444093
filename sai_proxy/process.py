"""The process: settings, logging, the event loop, and the server or the simulator in it."""

import errno
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any

import uvloop
from aiohttp import web

from sai_proxy import __version__
from sai_proxy.app import create_app, failure_policy, metrics_app
from sai_proxy.configuration.environment import read_settings
from sai_proxy.configuration.settings import Settings
from sai_proxy.server import has_c_parser, serve, serve_until_stopped
from sai_proxy.simulator import run_simulator_at, simulator
from sai_proxy.telemetry.logs import configure_logging, shows_text
from sai_proxy.telemetry.tracing import Tracing, TracingUnavailableError, make_tracing

logger = logging.getLogger(__name__)

DEMO_PACE_S = 0.06
"""Between two pieces of a demo's answer, so that it is seen to stream."""

SIMULATOR_MODEL = "simulator"
_SAI_VARIABLES = {"SAI_URL", "SAI_TEMPLATE_ID", "SAI_KEY", "SAI_KEY_FILE", "SAI_COOKIE", "SAI_COOKIE_FILE"}
_DEMO_MODELS = "sai-model,charla=chat:aaaaaaaaaaaaaaaaaaaaaaaa,vivo=stream:claude-sonnet-4-6,nativo=prompt:gpt-4o"
"""One of each road, unless the environment names others."""

_DEMO = {"SAI_TEMPLATE_ID": "aaaaaaaaaaaaaaaaaaaaaaaa", "SAI_KEY": "demo-key", "SAI_COOKIE": "demo-cookie"}


class StartFault(Exception):
    """The server could not start, for a reason outside its configuration."""


def run_server(environ: Mapping[str, str], *, demo: bool = False) -> None:
    """Serve until stopped. Raises ConfigurationFault or StartFault, each in plain lines."""
    if not demo:
        settings = read_settings(environ)
        _check_port(settings.host, settings.port)
        _run(_serve(settings), settings)
        return
    # Where the simulator listens is known only later; all else is checked before anything starts.
    ignored = sorted(_SAI_VARIABLES & environ.keys())
    demo_environ = {
        "SAI_MODELS": _DEMO_MODELS,
        **{name: value for name, value in environ.items() if name not in ignored},
        **_DEMO,
    }
    settings = read_settings({**demo_environ, "SAI_URL": "http://127.0.0.1:1"})
    _check_port(settings.host, settings.port)
    _run(_serve_demo(demo_environ, ignored), settings)


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


def _run(main: Coroutine[Any, Any, None], settings: Settings) -> None:
    stop_logging = configure_logging(
        verbose=settings.verbose_logging, log_file=settings.log_file, log_format=settings.log_format
    )
    try:
        uvloop.run(main)
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


async def _serve(settings: Settings, answer_headers: dict[str, str] | None = None, *, demo: bool = False) -> None:
    if not demo:  # which has no credentials to lose
        _warn_of_risks(settings)

    def announce(port: int) -> None:
        shown = "localhost" if settings.host in ("0.0.0.0", "::") else settings.host
        logger.info(
            "listening",
            extra={
                "version": __version__,
                "base_url": f"http://{shown}:{port}/v1",
                "models": list(settings.models),
                "sai_url": settings.sai_url,
                **({"demo": True} if demo else {}),
            },
        )

    tracing = _tracing(settings)
    app = create_app(settings, answer_headers=answer_headers, tracing=tracing)
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
        )
    if tracing is not None:
        await tracing.close()


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
    async with serve(metrics_app(app), settings.host, settings.metrics_port, policy=failure_policy(settings)):
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
