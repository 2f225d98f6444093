"""The command line: `python -m sai_proxy serve | simulate | healthcheck | check`."""

import argparse
import os
import sys
from collections.abc import Sequence

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
    check = commands.add_parser("check", help="print the configuration, secrets masked, and what is wrong with it")
    for command in (serve, check):
        command.add_argument(
            "--env-file", metavar="FILE", help="read variables from FILE too; those of the environment win"
        )
    simulate = commands.add_parser("simulate", help="run the SAI simulator alone")
    simulate.add_argument("--host", default="127.0.0.1")
    simulate.add_argument("--port", type=int, default=4010)
    commands.add_parser("healthcheck", help="exit 0 if the server on PORT is alive, else 1")
    arguments = parser.parse_args(argv)
    match arguments.command:
        case "serve":
            return _serve(arguments.env_file, demo=arguments.demo)
        case "simulate":
            return _simulate(arguments.host, arguments.port)
        case "healthcheck":
            return _healthcheck()
        case _:
            return _check(arguments.env_file)


def _serve(env_file: str | None, *, demo: bool) -> int:
    from sai_proxy import process
    from sai_proxy.configuration.environment import ConfigurationFault, with_env_file

    try:
        process.run_server(with_env_file(os.environ, env_file), demo=demo)
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


def _check(env_file: str | None) -> int:
    from sai_proxy.configuration.environment import ConfigurationFault, read_settings, shown_settings, with_env_file

    try:
        settings = read_settings(with_env_file(os.environ, env_file))
    except ConfigurationFault as fault:
        print(fault, file=sys.stderr)
        return 1
    print("\n".join(shown_settings(settings)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
