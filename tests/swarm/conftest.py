"""What every test here needs: the images, in a registry, and the handbook at hand.

The handbook's own commands build, push and deploy. Different here: the base image and the registry's
address; there are fewer replicas, on a manager, as the handbook says for one node; the stack file has no
published port (there may be no ingress mesh), a network in which it can be asked, and short waits of
probes and updates. `tests/operations/test_stack_file.py` looks at what is left out here.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import ROOT, free_port
from tests.swarm.engine import docker, swarm_is_active
from tests.swarm.handbook import Handbook

NETWORK = "sai_proxy_test"
KEY, COOKIE, NEW_KEY = "canary-swarm-key", "canary-swarm-cookie", "a-longer-canary-key-than-before"
REPLICAS = 2
SECRETS = ("SAI_KEY", "SAI_KEY_v2", "SAI_COOKIE", "GRAFANA_PASSWORD", "RESPONSES_STORE")
NAMES = {"sai_llm", "sai_monitoring", *SECRETS}
"""Stacks and secrets as the handbook calls them."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not swarm_is_active():
        skip = pytest.mark.skip(reason="no Docker engine in Swarm mode can be reached")
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(skip)


def stack_file() -> str:
    """The stack file with what a one-node test must change."""
    stack = yaml.safe_load((ROOT / "docker-stack.yml").read_text())
    proxy = stack["services"]["sai_llm"]
    del proxy["ports"]
    proxy["deploy"]["endpoint_mode"] = "dnsrr"
    proxy["deploy"]["update_config"]["monitor"] = "5s"
    proxy["healthcheck"] |= {"interval": "2s", "start_period": "6s"}
    proxy["networks"] = ["default", "outside"]
    stack["networks"] = {"outside": {"external": True, "name": NETWORK}}
    return yaml.safe_dump(stack)


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str | None]:
    """The address of a registry, if this machine has Debian's `docker-registry`."""
    program = shutil.which("docker-registry")
    if program is None:
        yield None
        return
    folder, address = tmp_path_factory.mktemp("registry"), f"127.0.0.1:{free_port()}"
    config: dict[str, Any] = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        "http": {"addr": address},
    }
    (folder / "config.yml").write_text(yaml.safe_dump(config))
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen([program, "serve", str(folder / "config.yml")], stdout=log, stderr=log) as process,
    ):
        try:
            yield address
        finally:
            process.terminate()


@pytest.fixture(scope="session")
def handbook(registry: str | None, tmp_path_factory: pytest.TempPathFactory) -> Handbook:
    """The handbook, in a folder with the project's files, after its images were built and pushed."""
    taken = set(docker("stack", "ls", "--format", "{{.Name}}").split())
    taken |= set(docker("secret", "ls", "--format", "{{.Name}}").split())
    if taken & NAMES:
        pytest.fail(f"this Swarm already has {sorted(taken & NAMES)}: the tests need one of their own")
    folder = tmp_path_factory.mktemp("handbook") / "project"
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(".*", "node_modules", "logs", "tests"))
    shutil.copy(ROOT / ".dockerignore", folder)
    (folder / "docker-stack.yml").write_text(stack_file())
    base = os.environ.get("PYTHON_IMAGE")
    handbook = Handbook(
        folder,
        {
            **{"KEY": KEY, "COOKIE": COOKIE, "NEW_KEY": NEW_KEY, "GRAFANA_PASSWORD": "canary-grafana"},
            "REPLICAS": str(REPLICAS),
        },
        {
            "docker build ": f"docker build --build-arg PYTHON_IMAGE={base} " if base else "docker build ",
            "registry.example.com": registry or "sai-proxy-test.invalid",
            "https://sai.example.com": "http://sai:4010",
            "REPLICAS=2": f"REPLICAS={REPLICAS}",
            "REPLICAS=16": f"REPLICAS={REPLICAS + 1}",
            "docker service logs -f": "timeout 5 docker service logs -f",
            "docker run --rm ": f"docker run --rm --network {NETWORK} ",
        },
    )
    handbook.line("docker build")
    if registry:
        handbook.line("docker push")
    else:
        handbook.excuse("docker push")
    return handbook


@pytest.fixture(scope="session")
def image(handbook: Handbook, registry: str | None) -> str:
    """The image's name, as the handbook built it."""
    return f"{registry or 'sai-proxy-test.invalid'}/sai-proxy:1.0.0"


@pytest.fixture(scope="session")
def monitoring_images(handbook: Handbook, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables that name an image with this machine's Prometheus, laid out as the official one, and
    one in Grafana's place that does nothing: Grafana itself can be had from no package registry."""
    programs = [shutil.which(name) for name in ("prometheus", "promtool")]
    base = os.environ.get("PYTHON_IMAGE")
    if not (all(programs) and base):
        for fragment in ("monitoring", "MONITORING", "GRAFANA"):
            handbook.excuse(fragment)
        pytest.skip("needs prometheus and promtool on this machine, and PYTHON_IMAGE of the same system")
    folder = tmp_path_factory.mktemp("prometheus")
    for program in filter(None, programs):
        shutil.copy(program, folder)
    (folder / "Dockerfile").write_text(
        f"FROM {base}\n"
        "COPY prometheus promtool /bin/\n"
        "RUN mkdir /prometheus && chown 65534 /prometheus\n"
        "USER 65534\n"
        'ENTRYPOINT ["/bin/prometheus"]\n'
        'CMD ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"]\n'
    )
    docker("build", "-t", "prometheus:swarm-test", str(folder))
    idle = f'FROM {base}\nCMD ["python", "-c", "import signal; signal.pause()"]\n'
    docker("build", "-t", "no-grafana:swarm-test", "-", input=idle)
    return {"PROMETHEUS_IMAGE": "prometheus:swarm-test", "GRAFANA_IMAGE": "no-grafana:swarm-test"}


@pytest.fixture(scope="session")
def answers_image(handbook: Handbook, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of an image with this machine's Redis, started as Valkey's official one is."""
    program, base = shutil.which("valkey-server") or shutil.which("redis-server"), os.environ.get("PYTHON_IMAGE")
    if program is None or base is None:
        for fragment in ("kept-answers.yml", "own-store.yml", "RESPONSES_STORE_URL"):
            handbook.excuse(fragment)
        pytest.skip("needs redis-server on this machine, and PYTHON_IMAGE of the same system")
    folder = tmp_path_factory.mktemp("answers")
    shutil.copy(program, folder / "server")
    (folder / "lib").mkdir()
    linked = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    for library in re.findall(r"=> (/\S+)", linked):
        shutil.copy(library, folder / "lib")
    (folder / "Dockerfile").write_text(
        f"FROM {base}\nCOPY lib /lib-of-server\nENV LD_LIBRARY_PATH=/lib-of-server\nCOPY server /bin/server\n"
        'ENTRYPOINT ["/bin/server"]\n'
    )
    docker("build", "-t", "answers:swarm-test", str(folder))
    return "answers:swarm-test"
