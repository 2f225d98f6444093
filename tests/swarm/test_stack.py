"""The real Dockerfile and the real stack file on a real Swarm, by the handbook's own commands.

In the handbook's order; the last tests remove the stack, and ask whether any command was left out.
"""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.swarm.conftest import COOKIE, KEY, NETWORK, NEW_KEY, REPLICAS
from tests.swarm.engine import check_grafanas_files, compose_command, containers, docker, promql, wait_for
from tests.swarm.handbook import Handbook

SERVICE = "sai_llm_sai_llm"
SAI = "sai_proxy_test_sai"
LOAD = Path(__file__).with_name("load.py").read_text()


@pytest.fixture(scope="module")
def stack(handbook: Handbook, image: str) -> Iterator[None]:
    """The stack, deployed and healthy, in front of the simulator; gone afterwards."""
    docker("network", "create", "--driver", "overlay", "--attachable", NETWORK)
    simulate = ("python", "-m", "sai_proxy", "simulate", "--host", "0.0.0.0", "--port", "4010")
    network = f"name={NETWORK},alias=sai"
    docker(
        *("service", "create", "--detach", "--name", SAI, "--network", network, "--endpoint-mode", "dnsrr"),
        *("--no-healthcheck", "--init", image, *simulate),
    )
    try:
        handbook.block('printf %s "$KEY"')
        wait_for(lambda: len(containers(SERVICE)) == REPLICAS, 90, "all replicas healthy")
        yield
    finally:
        docker("stack", "rm", "sai_monitoring", check=False)
        docker("stack", "rm", "sai_llm", check=False)
        docker("service", "rm", SAI, check=False)
        for name in ("sai_llm", "sai_monitoring"):
            label = f"label=com.docker.stack.namespace={name}"
            wait_for(lambda label=label: not docker("ps", "-q", "-f", label), 90, "stack gone")  # type: ignore[misc]
        for secret in ("SAI_KEY", "SAI_COOKIE", "SAI_KEY_v2"):
            docker("secret", "rm", secret, check=False)
        docker("volume", "rm", "sai_monitoring_prometheus", "sai_monitoring_grafana", check=False)
        wait_for(lambda: gone("network", NETWORK), 60, "network gone")


def gone(kind: str, name: str) -> bool:
    docker(kind, "rm", name, check=False)
    return name not in docker(kind, "ls", "--format", "{{.Name}}").split()


@pytest.fixture
def inside(stack: None, image: str) -> Callable[..., str]:
    """Runs a Python program in the stack's network, and returns what it prints."""

    def run(code: str, *arguments: str) -> str:
        command = ("run", "--rm", "-i", "--network", NETWORK, image, "python", "-", *arguments)
        return docker(*command, input=code, timeout=180)

    return run


ASK = """
import http.client, json, sys
connection = http.client.HTTPConnection("sai_llm", 4000, timeout=40)
body = {"model": "sai-model", "stream": True, "messages": [{"role": "user", "content": sys.argv[1]}]}
connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
print(connection.getresponse().read().decode())
"""


def test_an_answer_streams(inside: Callable[..., str]) -> None:
    answer = inside(ASK, "[[answer=from the swarm]][[split=5]][[delay=0.05]]")
    assert answer.count('"content":') > 3
    assert answer.rstrip().endswith("data: [DONE]")


def test_the_handbooks_looks_at_the_stack_show_it(stack: None, handbook: Handbook) -> None:
    assert f"{REPLICAS}/{REPLICAS}" in handbook.line("docker stack services")
    assert handbook.line("docker service ps").count("Running") >= REPLICAS
    handbook.block("docker service logs --raw")
    lines = [json.loads(line) for line in (handbook.folder / "sai.log").read_text().splitlines()]
    assert [line["message"] for line in lines].count("listening") == REPLICAS


def test_secrets_are_read_and_appear_nowhere(inside: Callable[..., str], image: str) -> None:
    inside(ASK, "[[status=401]]")
    ids = containers(SERVICE)
    everything = docker("inspect", *ids, SERVICE, image) + docker("history", "--no-trunc", image)
    for container in ids:
        everything += docker("exec", container, "env")
        used = docker("exec", container, "python", "-m", "sai_proxy", "check")
        assert f"SAI_KEY=(set, {len(KEY)} characters)" in used
        assert "SAI_COOKIE=(set, " in used
        everything += used
    log = docker("service", "logs", "--raw", SERVICE)
    assert '"error":"upstream_auth"' in log
    assert KEY not in everything + log
    assert COOKIE not in everything + log


def test_a_replica_is_confined(stack: None) -> None:
    container = containers(SERVICE)[0]
    assert docker("exec", container, "id", "-u").strip() == "10001"
    write = subprocess.run(
        ["docker", "exec", container, "python", "-c", "open('/x', 'w')"], capture_output=True, text=True
    )
    assert "Read-only file system" in write.stderr
    assert docker("exec", container, "date", "+%Z").strip() == "-05", "TZ=America/Guayaquil"
    assert docker("exec", "-e", "TZ=UTC", container, "date", "+%Z").strip() == "UTC"
    capabilities = docker("exec", container, "grep", "CapEff", "/proc/self/status")
    assert int(capabilities.split()[1], 16) == 0
    assert "gcc" not in docker("exec", container, "ls", "/usr/bin")
    assert docker("exec", "-u", "0", container, "find", "/", "-xdev", "-path", "*/.cache/pip/*", "-type", "f") == ""


def test_prometheus_in_the_swarm_scrapes_every_replica(
    stack: None, handbook: Handbook, monitoring_images: dict[str, str]
) -> None:
    """And Grafana's files lie where its image looks for them."""
    handbook.env |= monitoring_images
    alter(handbook.folder / "deploy/swarm/monitoring.yml", without_published_ports)
    handbook.block("export GRAFANA_PASSWORD")
    prometheus, grafana = "sai_monitoring_prometheus", "sai_monitoring_grafana"
    wait_for(lambda: containers(prometheus, healthy=False), 60, "a running Prometheus")
    (container,) = containers(prometheus, healthy=False)
    wait_for(lambda: len(promql(container, 'up{job="sai-proxy"} == 1')) == REPLICAS, 60, "every replica scraped")
    rules = docker("exec", container, "promtool", "check", "config", "/etc/prometheus/prometheus.yml")
    assert "SUCCESS: 1 rule files found" in rules
    (container,) = containers(grafana, healthy=False)
    check_grafanas_files(container)
    docker("stack", "rm", "sai_monitoring")
    wait_for(lambda: not containers(prometheus, healthy=False), 60, "monitoring gone")


def without_published_ports(stack: Any) -> None:
    for service in stack["services"].values():
        service.pop("ports", None)
        service["deploy"]["endpoint_mode"] = "dnsrr"


def alter(file: Path, change: Callable[[Any], None]) -> None:
    """Change a YAML file."""
    content = yaml.safe_load(file.read_text())
    change(content)
    file.write_text(yaml.safe_dump(content))


def load_during(seconds: float, image: str, action: Callable[[], object]) -> dict[str, Any]:
    """What became of constant load while `action` ran."""
    command = ["docker", "run", "--rm", "-i", "--network", NETWORK, image, "python", "-", str(seconds)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(LOAD)
        process.stdin.close()
        assert process.stdout.readline() == "started\n"
        action()
        result: dict[str, Any] = json.loads(process.stdout.read())
    return result


def images_of_all() -> set[str]:
    return {docker("inspect", "-f", "{{.Config.Image}}", container).strip() for container in containers(SERVICE)}


@pytest.fixture(scope="module")
def next_image(image: str, registry: str | None) -> str:
    name = image.replace("1.0.0", "1.0.1")
    docker("build", "-t", name, "-", input=f"FROM {image}\nLABEL next=yes\n")
    if registry:
        docker("push", name)
    return name


def test_a_rolling_update_under_load_fails_no_request(
    stack: None, handbook: Handbook, image: str, next_image: str
) -> None:
    result = load_during(60, image, lambda: handbook.line("docker service update --image"))
    assert {name.split("@")[0] for name in images_of_all()} == {next_image}
    assert result["failures"] == {}
    assert result["good"] > 400


def test_an_update_is_taken_back_and_the_service_scaled(stack: None, handbook: Handbook, image: str) -> None:
    handbook.line("docker service rollback")
    wait_for(lambda: {name.split("@")[0] for name in images_of_all()} == {image}, 40, "the image of before")
    handbook.line("docker service scale")
    wait_for(lambda: len(containers(SERVICE)) == REPLICAS + 1, 40, "one replica more")


def test_a_secret_is_rotated(stack: None, handbook: Handbook) -> None:
    handbook.block('printf %s "$NEW_KEY"')

    def all_have_it() -> bool:
        ids = containers(SERVICE)
        used = [docker("exec", name, "python", "-m", "sai_proxy", "check", check=False) for name in ids]
        return len(used) == REPLICAS and all(f"SAI_KEY=(set, {len(NEW_KEY)} characters)" in text for text in used)

    wait_for(all_have_it, 120, "the new key in every replica, once the old ones have drained")
    handbook.line("docker secret rm")


def test_each_replica_can_have_a_log_file_of_its_own(
    stack: None, handbook: Handbook, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can give a folder to the container's user")
    logs = tmp_path_factory.mktemp("logs")
    os.chown(logs, 10001, 10001)

    def other_folder(stack: Any) -> None:
        assert stack["services"]["sai_llm"]["volumes"] == ["/var/log/sai:/var/log/sai"]
        stack["services"]["sai_llm"]["volumes"] = [f"{logs}:/var/log/sai"]

    alter(handbook.folder / "deploy/swarm/log-files.yml", other_folder)
    handbook.line("docker stack deploy -c docker-stack.yml -c deploy/swarm/log-files.yml")
    names = {f"sai_proxy.{slot}.log" for slot in range(1, REPLICAS + 1)}
    wait_for(lambda: {file.name for file in logs.iterdir()} >= names, 120, "a file for each slot")
    for name in names:
        assert '"listening"' in (logs / name).read_text()


def test_a_killed_replica_is_replaced(stack: None) -> None:
    wait_for(settled, 120, "the update before it has ended")
    victim = containers(SERVICE)[0]
    docker("kill", "-s", "KILL", victim)
    wait_for(lambda: victim not in containers(SERVICE) and len(containers(SERVICE)) == REPLICAS, 40, "a new replica")


def state() -> str:
    return docker("service", "inspect", "-f", "{{if .UpdateStatus}}{{.UpdateStatus.State}}{{end}}", SERVICE).strip()


def settled() -> bool:
    return state() in ("completed", "rollback_completed") and len(containers(SERVICE)) == REPLICAS


def test_a_bad_image_rolls_back_by_itself(stack: None, image: str) -> None:
    before = images_of_all()
    bad = "sai-proxy:swarm-test-bad"
    docker("build", "-t", bad, "-", input=f'FROM {image}\nCMD ["python", "-c", "raise SystemExit(3)"]\n')
    docker("service", "update", "--image", bad, "--no-resolve-image", "--detach=true", SERVICE)
    wait_for(lambda: state() == "rollback_completed", 120, "rolled back")
    wait_for(settled, 60, "all replicas healthy")
    assert images_of_all() == before


def test_removing_the_stack_drains(stack: None, handbook: Handbook, image: str) -> None:
    """A stream that runs when the stack is removed ends as it should."""
    code = ASK.replace("print(", "print('asked', flush=True); print(")
    command = ["docker", "run", "--rm", "-i", "--network", NETWORK, image, "python", "-"]
    with subprocess.Popen(
        [*command, "[[answer=abcdefghij]][[split=1]][[delay=0.7]]"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(code)
        process.stdin.close()
        assert process.stdout.readline() == "asked\n"
        time.sleep(1)  # the stream is 7 s long: it has begun, and is not near its end
        handbook.line("docker stack rm")
        answer = process.stdout.read()
    assert answer.count('"delta":{"content":') == 10
    assert answer.rstrip().endswith("data: [DONE]")
    wait_for(lambda: not containers(SERVICE, healthy=False), 90, "every replica gone")


def test_no_command_of_the_handbook_was_left_out(stack: None, handbook: Handbook) -> None:
    """The queries of the log are run by `tests/operations`, `make` by `tests/test_make.py`."""
    elsewhere = ("jq ", "make ") if compose_command() else ("jq ", "make ", "docker compose ")
    assert {line for line in handbook.not_run if not line.startswith(elsewhere)} == set()
