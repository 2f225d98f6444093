"""A Docker engine in Swarm mode, as the tests use it."""

import json
import shutil
import subprocess
import time
from collections.abc import Callable
from typing import Any

import yaml


def docker(*arguments: str, check: bool = True, **options: Any) -> str:
    """Output of one `docker` command."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, **options)
    assert not check or done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr[-2000:]}"
    return str(done.stdout)


def swarm_is_active() -> bool:
    if not shutil.which("docker"):
        return False
    info = subprocess.run(["docker", "info", "-f", "{{.Swarm.LocalNodeState}}"], capture_output=True, text=True)
    return info.stdout.strip() == "active"


def compose_command() -> str | None:
    """`docker compose`, or the program that came before it."""
    plugin = subprocess.run(["docker", "compose", "version"], capture_output=True)
    if plugin.returncode == 0:
        return "docker compose"
    return "docker-compose" if shutil.which("docker-compose") else None


def wait_for(condition: Callable[[], object], timeout_s: float, what: str) -> None:
    """Returns when `condition` holds; an engine announces its states to nobody."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}\n{tasks()}"
        time.sleep(0.5)


def tasks() -> str:
    """What became of the tasks of every service, for a test that failed."""
    services = docker("service", "ls", "-q", check=False).split()
    return docker("service", "ps", "--no-trunc", *services, check=False) if services else ""


def containers(service: str, *, healthy: bool = True) -> list[str]:
    """The ids of a service's running containers."""
    health = ("-f", "health=healthy") if healthy else ()
    return docker("ps", "-q", "-f", f"label=com.docker.swarm.service.name={service}", *health).split()


def promql(container: str, query: str) -> list[dict[str, Any]]:
    """What the Prometheus in a container answers to a query; nothing while it starts."""
    url = "http://localhost:9090"
    out = docker("exec", container, "promtool", "query", "instant", "--format=json", url, query, check=False)
    found: list[dict[str, Any]] = json.loads(out or "[]")
    return found


def check_grafanas_files(container: str) -> None:
    """The provisioning leads from folder to folder, and to a Prometheus that answers."""
    folder = "/etc/grafana/provisioning"
    provider = yaml.safe_load(docker("exec", container, "cat", f"{folder}/dashboards/sai-proxy.yml"))
    path = provider["providers"][0]["options"]["path"]
    assert json.loads(docker("exec", container, "cat", f"{path}/sai-proxy.json"))["uid"] == "sai-proxy"
    source = yaml.safe_load(docker("exec", container, "cat", f"{folder}/datasources/prometheus.yml"))["datasources"][0]
    ask = f"import urllib.request as u; print(u.urlopen('{source['url']}/api/v1/query?query=vector(7)').read())"
    assert '"7"' in docker("exec", container, "python", "-c", ask)
