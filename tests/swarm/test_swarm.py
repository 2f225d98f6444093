"""The real Dockerfile and the real stack file, on a real Swarm: `make test-swarm`.

Needs a Docker engine in Swarm mode, named by DOCKER_HOST or the default; PYTHON_IMAGE may name
another base image. The stack file is changed where one node asks for it: fewer replicas, no placement
(there are no workers), no published port (there may be no ingress mesh, and several replicas share
the node; they are reached by their name inside the network), and shorter waits of probes and updates.
"""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import ROOT

STACK = "sai_proxy_test"
SERVICE = f"{STACK}_sai_llm"
IMAGE = "sai-proxy:swarm-test"
NEXT_IMAGE = "sai-proxy:swarm-test-next"
BAD_IMAGE = "sai-proxy:swarm-test-bad"
NETWORK = f"{STACK}_inside"
SECRETS = {"SAI_KEY": "canary-swarm-key", "SAI_COOKIE": "canary-swarm-cookie"}
REPLICAS = 3
LOAD = Path(__file__).with_name("load.py").read_text()


def docker(*arguments: str, check: bool = True, **options: Any) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, **options)
    assert not check or done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr[-2000:]}"
    return str(done.stdout)


def swarm_is_active() -> bool:
    if not shutil.which("docker"):
        return False
    info = subprocess.run(["docker", "info", "-f", "{{.Swarm.LocalNodeState}}"], capture_output=True, text=True)
    return info.stdout.strip() == "active"


pytestmark = pytest.mark.skipif(not swarm_is_active(), reason="no Docker engine in Swarm mode can be reached")


def wait_for(condition: Callable[[], object], timeout_s: float, what: str) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, (
            f"not within {timeout_s} s: {what}\n{docker('service', 'ps', SERVICE, '--no-trunc')}"
        )
        time.sleep(0.5)


def containers(service: str = SERVICE) -> list[str]:
    return docker("ps", "-q", "-f", f"label=com.docker.swarm.service.name={service}", "-f", "health=healthy").split()


def stack_file() -> str:
    """The deployed stack file, resolved by Docker itself, with what a one-node test must change."""
    env = {**os.environ, "SAI_URL": "http://sai:4010", "SAI_TEMPLATE_ID": "t", "SAI_PROXY_IMAGE": IMAGE}
    config = yaml.safe_load(docker("stack", "config", "-c", str(ROOT / "docker-stack.yml"), env=env))
    proxy = config["services"]["sai_llm"]
    assert proxy["deploy"]["replicas"] == 8
    del proxy["ports"], proxy["deploy"]["placement"]
    proxy["deploy"] |= {"replicas": REPLICAS, "endpoint_mode": "dnsrr"}
    proxy["deploy"]["update_config"]["monitor"] = "5s"
    proxy["healthcheck"]["interval"] = "2s"
    proxy["networks"] = ["inside"]
    config["services"]["sai"] = {
        "image": IMAGE,
        "init": True,
        "command": ["python", "-m", "sai_proxy", "simulate", "--host", "0.0.0.0", "--port", "4010"],
        "networks": ["inside"],
        "healthcheck": {"disable": True},
        "deploy": {"endpoint_mode": "dnsrr"},
    }
    config["networks"] = {"inside": {"driver": "overlay", "attachable": True}}
    return yaml.safe_dump(config)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The stack, built, deployed and healthy; gone afterwards."""
    base = os.environ.get("PYTHON_IMAGE")
    arguments = ["--build-arg", f"PYTHON_IMAGE={base}"] if base else []
    docker("build", "--network", "host", *arguments, "-t", IMAGE, str(ROOT), timeout=600)
    docker("build", "-t", NEXT_IMAGE, "-", input=f"FROM {IMAGE}\nLABEL next=yes\n")
    docker("build", "-t", BAD_IMAGE, "-", input=f'FROM {IMAGE}\nCMD ["python", "-c", "raise SystemExit(3)"]\n')
    for name, value in SECRETS.items():
        docker("secret", "rm", name, check=False)
        docker("secret", "create", name, "-", input=value)
    file = tmp_path_factory.mktemp("stack") / "stack.yml"
    file.write_text(stack_file())
    try:
        docker("stack", "deploy", "--detach=true", "--resolve-image", "never", "-c", str(file), STACK)
        wait_for(lambda: len(containers()) == REPLICAS, 90, "all replicas healthy")
        yield
    finally:
        docker("stack", "rm", STACK, check=False)
        wait_for(lambda: not docker("ps", "-q", "-f", f"label=com.docker.stack.namespace={STACK}"), 90, "stack gone")
        for name in (*SECRETS, "SAI_KEY_v2"):
            docker("secret", "rm", name, check=False)


def inside(code: str, *arguments: str) -> str:
    """Output of a Python program that runs in the stack's network."""
    return docker("run", "--rm", "-i", "--network", NETWORK, IMAGE, "python", "-", *arguments, input=code, timeout=180)


ASK = """
import http.client, json, sys
connection = http.client.HTTPConnection("sai_llm", 4000, timeout=20)
body = {"model": "sai-model", "stream": True, "messages": [{"role": "user", "content": sys.argv[1]}]}
connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
print(connection.getresponse().read().decode())
"""


def test_an_answer_streams(stack: None) -> None:
    answer = inside(ASK, "[[answer=from the swarm]][[split=5]][[delay=0.05]]")
    assert answer.count('"content":') > 3
    assert answer.rstrip().endswith("data: [DONE]")


def test_secrets_are_read_and_appear_nowhere(stack: None) -> None:
    inside(ASK, "[[status=401]]")
    ids = containers()
    everything = (
        docker("inspect", *ids) + docker("service", "inspect", SERVICE) + docker("history", "--no-trunc", IMAGE)
    )
    for container in ids:
        everything += docker("exec", container, "env")
        used = docker("exec", container, "python", "-m", "sai_proxy", "check")
        assert f"SAI_KEY=(set, {len(SECRETS['SAI_KEY'])} characters)" in used
        everything += used
    log = docker("service", "logs", "--raw", SERVICE)
    assert '"error":"upstream_auth"' in log
    assert "canary" not in everything + log


def test_a_replica_is_confined(stack: None) -> None:
    container = containers()[0]
    assert docker("exec", container, "id", "-u").strip() == "10001"
    write = subprocess.run(
        ["docker", "exec", container, "python", "-c", "open('/x', 'w')"], capture_output=True, text=True
    )
    assert "Read-only file system" in write.stderr
    assert docker("exec", container, "date", "+%Z").strip() == "-05", "TZ=America/Guayaquil"
    capabilities = docker("exec", container, "grep", "CapEff", "/proc/self/status")
    assert int(capabilities.split()[1], 16) == 0
    assert "gcc" not in docker("exec", container, "ls", "/usr/bin")


def load_during(seconds: float, action: Callable[[], None]) -> dict[str, Any]:
    """What became of constant load while `action` ran."""
    command = ["docker", "run", "--rm", "-i", "--network", NETWORK, IMAGE, "python", "-", str(seconds)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(LOAD)
        process.stdin.close()
        time.sleep(3)
        action()
        result: dict[str, Any] = json.loads(process.stdout.read())
    return result


def image_of_all() -> set[str]:
    return {docker("inspect", "-f", "{{.Config.Image}}", container).strip() for container in containers()}


def test_a_rolling_update_under_load_fails_no_request(stack: None) -> None:
    def update() -> None:
        docker(
            "service",
            "update",
            "--image",
            NEXT_IMAGE,
            "--no-resolve-image",
            "--detach=false",
            "-q",
            SERVICE,
            timeout=170,
        )

    result = load_during(75, update)
    assert image_of_all() == {NEXT_IMAGE}
    assert result["failures"] == {}
    assert result["good"] > 500


def test_an_update_is_taken_back_and_the_service_scaled(stack: None) -> None:
    docker("service", "rollback", "--detach=false", "-q", SERVICE, timeout=170)
    wait_for(lambda: image_of_all() == {IMAGE}, 40, "the image of before")
    docker("service", "scale", "--detach=true", f"{SERVICE}={REPLICAS + 1}")
    wait_for(lambda: len(containers()) == REPLICAS + 1, 40, "one replica more")
    docker("service", "scale", "--detach=true", f"{SERVICE}={REPLICAS}")
    wait_for(lambda: len(containers()) == REPLICAS, 40, "one replica less")


def test_a_secret_is_rotated_as_the_handbook_says(stack: None) -> None:
    docker("secret", "rm", "SAI_KEY_v2", check=False)
    docker("secret", "create", "SAI_KEY_v2", "-", input="a-longer-canary-key-than-before")
    change = ("--secret-rm", "SAI_KEY", "--secret-add", "source=SAI_KEY_v2,target=SAI_KEY")
    docker("service", "update", *change, "--no-resolve-image", "--detach=false", "-q", SERVICE, timeout=170)

    def all_have_it() -> bool:
        used = [docker("exec", name, "python", "-m", "sai_proxy", "check", check=False) for name in containers()]
        return len(used) == REPLICAS and all("SAI_KEY=(set, 31 characters)" in text for text in used)

    wait_for(all_have_it, 40, "the new key in every replica, once the old ones have drained")


def test_a_killed_replica_is_replaced(stack: None) -> None:
    victim = containers()[0]
    docker("kill", "-s", "KILL", victim)
    wait_for(lambda: victim not in containers() and len(containers()) == REPLICAS, 40, "a new replica")


def test_a_bad_image_rolls_back_by_itself(stack: None) -> None:
    before = image_of_all()
    docker("service", "update", "--image", BAD_IMAGE, "--no-resolve-image", "--detach=true", SERVICE)

    def state() -> str:
        return docker("service", "inspect", "-f", "{{.UpdateStatus.State}}", SERVICE).strip()

    wait_for(lambda: state() == "rollback_completed", 120, "rolled back")
    wait_for(lambda: len(containers()) == REPLICAS, 60, "all replicas healthy")
    assert image_of_all() == before


def test_removing_the_stack_drains(stack: None) -> None:
    """A stream that runs when the stack is removed ends as it should."""
    code = ASK.replace("timeout=20", "timeout=40")
    command = ["docker", "run", "--rm", "-i", "--network", NETWORK, IMAGE, "python", "-"]
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
        time.sleep(2)
        docker("service", "rm", SERVICE)
        answer = process.stdout.read()
    assert answer.rstrip().endswith("data: [DONE]")
