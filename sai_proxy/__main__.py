"""The command line: `python -m sai_proxy serve | simulate | healthcheck | check`."""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sai_proxy.configuration.settings import Settings

# Imports that cost time stand in the commands: the container's probe runs every few seconds.


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the process' exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m sai_proxy", description="An OpenAI-compatible reverse proxy in front of SAI."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="run the server, configured by environment variables")
    serve.add_argument(
        "--demo", action="store_true", help="answer from a built-in SAI simulator; needs no configuration"
    )
    serve.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    serve.add_argument("--parent", type=int, help=argparse.SUPPRESS)
    check = commands.add_parser("check", help="print the configuration, secrets masked, and what is wrong with it")
    check.add_argument("--ask", action="store_true", help="ask SAI once with each credential, and say how it answers")
    check.add_argument("--model", metavar="NAME", help="the model to ask with --ask; the first one without it")
    for command in (serve, check):
        command.add_argument(
            "--env-file", metavar="FILE", help="read variables from FILE too; those of the environment win"
        )
    simulate = commands.add_parser("simulate", help="run the SAI simulator alone")
    simulate.add_argument("--host", default="127.0.0.1")
    simulate.add_argument("--port", type=int, default=4010)
    commands.add_parser("healthcheck", help="exit 0 if the server on PORT is alive, else 1")
    arguments = parser.parse_args(argv)
    _keep_standard_descriptors()
    match arguments.command:
        case "serve":
            worker = None if arguments.worker is None else (arguments.worker, arguments.parent)
            return _serve(arguments.env_file, demo=arguments.demo, worker=worker)
        case "simulate":
            return _simulate(arguments.host, arguments.port)
        case "healthcheck":
            return _healthcheck()
        case _:
            return _check(arguments.env_file, ask=arguments.ask, model=arguments.model)


def _serve(env_file: str | None, *, demo: bool, worker: tuple[int, int] | None = None) -> int:
    """worker: its number, and the descriptor of its way to its parent, which has started it."""
    from sai_proxy import process
    from sai_proxy.configuration.environment import ConfigurationFault, misspelt, with_env_file

    try:
        if worker is not None:
            process.run_worker(with_env_file(os.environ, env_file), *worker)
            return 0
        for name in misspelt(os.environ, env_file):
            print(f"warning: {name}", file=sys.stderr)
        arguments = ["serve", *(["--env-file", env_file] if env_file else [])]
        process.run_server(with_env_file(os.environ, env_file), demo=demo, arguments=arguments)
    except (ConfigurationFault, process.StartFault) as fault:
        print(fault, file=sys.stderr)
        return 1
    return 0


def _simulate(host: str, port: int) -> int:
    from sai_proxy import process

    try:
        process.run_simulator(host, port)
    except process.StartFault as fault:
        print(fault, file=sys.stderr)
        return 1
    return 0


def _healthcheck() -> int:
    from http.client import HTTPConnection, HTTPException

    host, port = os.environ.get("HOST") or "127.0.0.1", os.environ.get("PORT") or "4000"
    if host in ("0.0.0.0", "::"):
        host = "localhost"
    try:
        connection = HTTPConnection(host, int(port), timeout=3)
        connection.request("GET", "/health/liveness")
        status = connection.getresponse().status
    except (OSError, HTTPException, ValueError) as exc:
        print(f"no health from {host}:{port}: {exc}", file=sys.stderr)
        return 1
    return 0 if status == 200 else 1


def _check(env_file: str | None, *, ask: bool, model: str | None) -> int:
    from sai_proxy.configuration.environment import (
        ConfigurationFault,
        misspelt,
        read_settings,
        shown_settings,
        with_env_file,
    )

    try:
        for name in misspelt(os.environ, env_file):
            print(f"warning: {name}", file=sys.stderr)
        settings = read_settings(with_env_file(os.environ, env_file))
    except ConfigurationFault as fault:
        print(fault, file=sys.stderr)
        return 1
    if not ask:
        return _print(shown_settings(settings))
    if model is not None and model not in settings.models:
        print(f"--model: found '{model[:100]}'; allowed: {', '.join(settings.models)}", file=sys.stderr)
        return 1
    return _ask(settings, model or next(iter(settings.models)))


def _ask(settings: "Settings", model: str) -> int:
    """1 if any credential is not accepted."""
    import uvloop

    from sai_proxy.credential_check import check_credentials

    findings = uvloop.run(check_credentials(settings, model))
    _print([f"asking {settings.sai_url} for {model}", *map(str, findings)])
    accepted = any(finding.state == "accepted" for finding in findings)
    return 0 if accepted and all(finding.good for finding in findings) else 1


def _keep_standard_descriptors() -> None:
    """A standard stream that is closed leads nowhere from now on: else a socket would take its number, which uvloop
    does not allow."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
    sys.stdout = sys.stdout or os.fdopen(1, "w")
    sys.stderr = sys.stderr or os.fdopen(2, "w")


def _print(lines: Sequence[str]) -> int:
    """Whoever reads may have enough before the end, as `head` does."""
    try:
        print("\n".join(lines), flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the interpreter's own flush at the end
    return 0


if __name__ == "__main__":
    sys.exit(main())
