"""The compose file on a real engine, by the handbook's own commands: the proxy alone, then with
Prometheus and what stands for Grafana."""

import json
import urllib.request
from collections.abc import Iterator

import pytest
import yaml

from tests.documents import text_of
from tests.support import chat, free_port
from tests.swarm.engine import check_grafanas_files, compose_command, docker, promql, wait_for
from tests.swarm.handbook import Handbook

PROJECT = "sai_proxy_test_compose"


pytestmark = pytest.mark.skipif(compose_command() is None, reason="no Docker Compose on this machine")


@pytest.fixture(scope="module")
def ports() -> dict[str, str]:
    return {name: str(free_port()) for name in ("PORT", "PROMETHEUS_PORT", "GRAFANA_PORT")}


@pytest.fixture(scope="module")
def project(handbook: Handbook, image: str, ports: dict[str, str]) -> Iterator[Handbook]:
    """The handbook, in a folder with a filled-in `.env`."""
    logs = handbook.folder / "logs"
    logs.mkdir()
    logs.chmod(0o777)
    (handbook.folder / ".env").write_text(
        "SAI_URL=http://sai:4010\nSAI_TEMPLATE_ID=t\nSAI_KEY='canary-compose-key'\n"
        + "".join(f"{name}={port}\n" for name, port in ports.items())
    )
    before = dict(handbook.env)
    handbook.env |= {"COMPOSE_PROJECT_NAME": PROJECT, "SAI_PROXY_IMAGE": image}
    handbook.replaced["docker compose"] = compose_command() or ""
    yield handbook
    containers = docker("ps", "-aq", "-f", f"label=com.docker.compose.project={PROJECT}", check=False).split()
    if containers:
        docker("rm", "-f", *containers)
    docker("network", "rm", f"{PROJECT}_default", check=False)
    handbook.env = before


def container(service: str) -> str:
    labels = (f"com.docker.compose.project={PROJECT}", f"com.docker.compose.service={service}")
    return docker("ps", "-q", *(f"-flabel={label}" for label in labels)).strip()


@pytest.fixture(scope="module")
def sai(project: Handbook, image: str) -> Iterator[str]:
    """The simulator, by the name that `.env` gives, in the network of what was started."""
    project.line("docker compose up -d")
    simulate = ("python", "-m", "sai_proxy", "simulate", "--host", "0.0.0.0", "--port", "4010")
    network = ("--network", f"{PROJECT}_default", "--network-alias", "sai")
    started = docker("run", "-d", "--rm", "--no-healthcheck", *network, image, *simulate).strip()
    yield started
    docker("rm", "-f", started)


def test_the_published_port_answers_and_the_log_is_a_file_too(
    sai: str, project: Handbook, ports: dict[str, str]
) -> None:
    url = f"http://127.0.0.1:{ports['PORT']}/v1/chat/completions"
    request = urllib.request.Request(url, json.dumps(chat()).encode(), {"Content-Type": "application/json"})
    wait_for(lambda: '"listening"' in docker("logs", container("sai_llm")), 30, "the proxy listens")
    with urllib.request.urlopen(request, timeout=20) as response:
        answer = json.load(response)
    assert "SAI simulator: you wrote" in answer["choices"][0]["message"]["content"]

    def files() -> str:
        """What all processes have written: there is one on each core."""
        return "".join(file.read_text() for file in project.folder.glob("logs/sai_proxy*.log"))

    wait_for(lambda: '"status":200' in files(), 10, "the request's line in a file")
    assert '"listening"' in project.line("docker compose logs")
    assert "canary" not in files()


def test_monitoring_finds_the_proxy(
    sai: str, project: Handbook, ports: dict[str, str], monitoring_images: dict[str, str]
) -> None:
    project.env |= monitoring_images
    project.line("docker compose --profile monitoring up -d")
    wait_for(lambda: promql(container("prometheus"), 'up{job="sai-proxy"} == 1'), 60, "the proxy scraped")
    url = f"http://127.0.0.1:{ports['PROMETHEUS_PORT']}/api/v1/rules"
    with urllib.request.urlopen(url, timeout=20) as response:
        (group,) = json.load(response)["data"]["groups"]
    assert {rule["name"] for rule in group["rules"]} == {
        rule["alert"] for rule in yaml.safe_load(text_of("deploy/prometheus/alerts.yml"))["groups"][0]["rules"]
    }
    check_grafanas_files(container("grafana"))


def test_everything_is_taken_down(sai: str, project: Handbook) -> None:
    docker("rm", "-f", sai)
    before = container("sai_llm")
    project.line("docker compose --profile monitoring down")
    assert before
    assert not container("sai_llm")
