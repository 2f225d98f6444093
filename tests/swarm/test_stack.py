"""The real Dockerfile and the real stack file on a real Swarm, by the handbook's own commands.

In the handbook's order; the last tests remove the stack, and ask whether any command was left out.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from sai_proxy import __version__
from tests.swarm.conftest import COOKIE, KEY, NETWORK, NEW_KEY, REPLICAS, SECRETS
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
        handbook.line("export NODE_ROLE")
        wait_for(lambda: "Running" in docker("service", "ps", "--format", "{{.CurrentState}}", SAI), 60, "a SAI")
        wait_for(lambda: asked(handbook), 30, "SAI accepts the key")
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
        for secret in SECRETS:
            docker("secret", "rm", secret, check=False)
        docker("volume", "rm", "sai_monitoring_prometheus", "sai_monitoring_grafana", check=False)
        wait_for(lambda: gone("network", NETWORK), 60, "network gone")


def asked(handbook: Handbook) -> bool:
    """Whether the handbook's question before the deployment is answered; the simulator takes its time to start."""
    try:
        return "SAI_KEY: accepted" in handbook.block("export SAI_URL")
    except AssertionError:
        return False


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
response = connection.getresponse()
start = response.read1(1)
print("begun", flush=True)
print((start + response.read()).decode())
"""


def test_an_answer_streams(inside: Callable[..., str]) -> None:
    answer = inside(ASK, "[[answer=from the swarm]][[split=5]][[delay=0.05]]")
    assert answer.count('"content":') > 3
    assert answer.rstrip().endswith("data: [DONE]")


def test_the_handbooks_looks_at_the_stack_show_it(stack: None, handbook: Handbook) -> None:
    assert f"{REPLICAS}/{REPLICAS}" in handbook.line("docker stack services")
    assert handbook.line("docker service ps").count("Running") >= REPLICAS
    assert handbook.line("docker service inspect").strip() in ("null", "{}"), "nothing has been updated yet"
    assert '"listening"' in handbook.line("docker service logs --tail")
    assert "Ready" in handbook.line("docker node ls")
    assert '"listening"' in handbook.line("docker service logs -f", ends_with=124)


@pytest.mark.skipif(not shutil.which("jq"), reason="no jq on this machine")
def test_the_collected_log_is_in_order_and_names_the_replicas(stack: None, handbook: Handbook) -> None:
    handbook.line("timeout 60 docker service logs --raw")
    lines = [json.loads(line) for line in (handbook.folder / "sai.log").read_text().splitlines()]
    assert [line["time"] for line in lines] == sorted(line["time"] for line in lines)
    listening = {line["host"] for line in lines if line["message"] == "listening"}
    assert listening == {f"sai-llm-{slot}" for slot in range(1, REPLICAS + 1)}


def test_the_image_says_what_it_is(image: str) -> None:
    (config,) = [each["Config"] for each in json.loads(docker("inspect", image))]
    assert config["Cmd"] == ["python", "-m", "sai_proxy", "serve"]
    assert not config["Entrypoint"]
    assert config["Healthcheck"]["Test"] == ["CMD", "python", "-m", "sai_proxy", "healthcheck"]
    assert (config["User"], config["StopSignal"]) == ("10001:10001", "SIGTERM")
    labels = {name.removeprefix("org.opencontainers.image."): text for name, text in config["Labels"].items()}
    assert labels["title"] == "sai-proxy"
    assert labels["version"] == __version__
    assert set(labels) >= {"description", "licenses"}


def test_the_image_can_have_tracing(handbook: Handbook) -> None:
    base = os.environ.get("PYTHON_IMAGE")
    arguments = ["--build-arg", f"PYTHON_IMAGE={base}"] if base else []
    name = "sai-proxy:swarm-test-otel"
    docker("build", *arguments, "--build-arg", "EXTRAS=otel", "-t", name, str(handbook.folder), timeout=600)
    code = "from sai_proxy.telemetry.tracing import make_tracing; print(make_tracing('http://c:4318', 'http://sai'))"
    assert "Tracing" in docker("run", "--rm", name, "python", "-c", code)


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
    wait_for(lambda: '"error":"upstream_auth"' in docker("service", "logs", "--raw", SERVICE), 10, "the refusal's line")
    everything += docker("service", "logs", "--raw", SERVICE)
    assert KEY not in everything
    assert COOKIE not in everything


def test_a_replica_is_confined(stack: None) -> None:
    container = containers(SERVICE)[0]
    assert docker("exec", container, "id", "-u").strip() == "10001"
    write = subprocess.run(
        ["docker", "exec", container, "python", "-c", "open('/x', 'w')"], capture_output=True, text=True
    )
    assert "Read-only file system" in write.stderr
    assert docker("exec", container, "date", "+%Z").strip() == "-05", "TZ=America/Guayaquil"
    assert docker("exec", "-e", "TZ=UTC", container, "date", "+%Z").strip() == "UTC"
    status = docker("exec", container, "cat", "/proc/self/status")
    sets = dict(line.split(":\t") for line in status.splitlines() if line.startswith("Cap"))
    assert int(sets["CapBnd"], 16) == 0, "nothing can be gained either"
    assert "gcc" not in docker("exec", container, "ls", "/usr/bin")
    assert docker("exec", "-u", "0", container, "find", "/", "-xdev", "-path", "*/.cache/pip/*", "-type", "f") == ""


TURNS = """
import http.client, json, socket, sys
addresses = sorted({found[4][0] for found in socket.getaddrinfo("sai_llm", 4000)})

def ask(address, **fields):
    connection = http.client.HTTPConnection(address, 4000, timeout=40)
    body = {"model": "sai-model", **fields}
    connection.request("POST", "/v1/responses", json.dumps(body), {"Content-Type": "application/json"})
    return json.loads(connection.getresponse().read())

first = ask(addresses[0], input="[[answer=A42B]]one")
second = ask(addresses[1], input="[[echo]]two", previous_response_id=first["id"])
print(json.dumps([len(addresses), first, second]))
"""


def test_a_conversation_goes_on_at_another_replica(
    inside: Callable[..., str], handbook: Handbook, answers_image: str
) -> None:
    """With the store of the handbook; without it each answer belongs to nobody."""
    _, first, _ = json.loads(inside(TURNS))
    assert first["store"] is False
    handbook.env["ANSWERS_IMAGE"] = answers_image
    before = set(containers(SERVICE))
    handbook.block("docker stack deploy --with-registry-auth -c docker-stack.yml -c deploy/swarm/kept")
    wait_for(lambda: len(containers(SERVICE)) == REPLICAS and not before & set(containers(SERVICE)), 120, "an update")
    wait_for(lambda: containers("sai_llm_answers", healthy=False), 60, "a running store")
    replicas, first, second = json.loads(inside(TURNS))
    assert replicas == REPLICAS
    assert first["store"] is True
    told = json.loads(second["output"][0]["content"][0]["text"])
    assert "A42B" in [message["content"] for message in told["chatMessages"]]


def test_a_store_of_the_operators_own_is_named_by_a_secret(
    inside: Callable[..., str], handbook: Handbook, answers_image: str
) -> None:
    """Another database of the store beside the stack."""
    handbook.env["RESPONSES_STORE_URL"] = "redis://answers:6379/1"
    before = set(containers(SERVICE))
    handbook.block('printf %s "$RESPONSES_STORE_URL"')
    wait_for(lambda: len(containers(SERVICE)) == REPLICAS and not before & set(containers(SERVICE)), 120, "an update")
    replicas, first, second = json.loads(inside(TURNS))
    assert (replicas, first["store"]) == (REPLICAS, True)
    told = json.loads(second["output"][0]["content"][0]["text"])
    assert "A42B" in [message["content"] for message in told["chatMessages"]]
    count = "import redis; print(redis.Redis('answers', db=1).dbsize())"
    assert int(docker("exec", containers(SERVICE)[0], "python", "-c", count)) == 2


def test_prometheus_in_the_swarm_scrapes_every_replica(
    stack: None, handbook: Handbook, monitoring_images: dict[str, str]
) -> None:
    """Grafana's files lie where its image looks for them; and a file that was changed can be deployed."""
    handbook.env |= monitoring_images
    alter(handbook.folder / "deploy/swarm/monitoring.yml", without_published_ports)
    handbook.block('printf %s "$GRAFANA_PASSWORD"')
    prometheus, grafana = "sai_monitoring_prometheus", "sai_monitoring_grafana"
    wait_for(lambda: containers(prometheus, healthy=False), 60, "a running Prometheus")
    (container,) = containers(prometheus, healthy=False)
    wait_for(lambda: len(promql(container, 'up{job="sai-proxy"} == 1')) == REPLICAS, 60, "every replica scraped")
    rules = docker("exec", container, "promtool", "check", "config", "/etc/prometheus/prometheus.yml")
    assert "SUCCESS: 1 rule files found" in rules
    wait_for(lambda: containers(grafana, healthy=False), 60, "what stands for Grafana")
    (placeholder,) = containers(grafana, healthy=False)
    check_grafanas_files(placeholder)
    assert docker("exec", placeholder, "cat", "/run/secrets/GRAFANA_PASSWORD") == "canary-grafana"
    with (handbook.folder / "deploy/swarm/prometheus.yml").open("a") as config:
        config.write("# changed\n")
    handbook.block("export MONITORING_VERSION")
    wait_for(lambda: containers(prometheus, healthy=False) not in ([container], []), 60, "Prometheus anew")
    (container,) = containers(prometheus, healthy=False)
    assert "# changed" in docker("exec", container, "cat", "/etc/prometheus/prometheus.yml")
    handbook.block("docker stack rm sai_monitoring")
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


def load_during(image: str, action: Callable[[], object]) -> dict[str, Any]:
    """What became of constant load from before `action` until it ended."""
    command = ["docker", "run", "--rm", "-i", "--network", NETWORK, image, "python", "-c", LOAD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        action()
        assert process.poll() is None, "the load has ended before"
        process.stdin.close()
        result: dict[str, Any] = json.loads(process.stdout.read())
    return result


def images_of_all() -> set[str]:
    names = (docker("inspect", "-f", "{{.Config.Image}}", container) for container in containers(SERVICE))
    return {name.strip().split("@")[0] for name in names}


def state() -> str:
    return docker("service", "inspect", "-f", "{{if .UpdateStatus}}{{.UpdateStatus.State}}{{end}}", SERVICE).strip()


def settled(replicas: int) -> bool:
    return state() in ("completed", "rollback_completed") and len(containers(SERVICE, healthy=False)) == replicas


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
    def update() -> None:
        handbook.block("export SAI_PROXY_IMAGE=registry.example.com/sai-proxy:1.0.1")
        wait_for(lambda: images_of_all() == {next_image} and settled(REPLICAS), 120, "the new image everywhere")

    result = load_during(image, update)
    assert result["failures"] == {}
    assert min(result["good"]["anew"], result["good"]["kept"]) > 100


def test_an_update_is_taken_back(stack: None, handbook: Handbook, image: str) -> None:
    handbook.block("docker service rollback")
    wait_for(lambda: images_of_all() == {image} and settled(REPLICAS), 60, "the image of before")


def test_more_replicas_and_a_new_secret_leave_the_rest_as_it_is(
    stack: None, handbook: Handbook, next_image: str
) -> None:
    """Each deployment repeats what was exported before it: the image, the number of replicas."""
    handbook.env["DRAIN_DELAY"] = "1"  # from here on nobody asks while replicas are replaced
    handbook.block("export REPLICAS")
    wait_for(lambda: images_of_all() == {next_image} and settled(REPLICAS + 1), 120, "one replica more")
    assert "SAI_KEY: accepted" in handbook.line('docker run --rm -e SAI_KEY="$NEW_KEY"')
    handbook.block('printf %s "$NEW_KEY"')

    def all_have_it() -> bool:
        ids = containers(SERVICE)
        used = [docker("exec", name, "python", "-m", "sai_proxy", "check", check=False) for name in ids]
        return len(used) == REPLICAS + 1 and all(f"SAI_KEY=(set, {len(NEW_KEY)} characters)" in text for text in used)

    wait_for(all_have_it, 120, "the new key in every replica, once the old ones have drained")
    assert images_of_all() == {next_image}
    wait_for(lambda: settled(REPLICAS + 1), 60, "the update has ended")
    handbook.block("docker secret ls")


def test_each_replica_can_have_a_log_file_of_its_own(
    stack: None, handbook: Handbook, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if os.getuid() != 0:
        handbook.excuse("log-files.yml")
        pytest.skip("only root can give a folder to the container's user")
    logs = tmp_path_factory.mktemp("logs")
    os.chown(logs, 10001, 10001)

    def other_folder(stack: Any) -> None:
        assert stack["services"]["sai_llm"]["volumes"] == ["/var/log/sai:/var/log/sai"]
        stack["services"]["sai_llm"]["volumes"] = [f"{logs}:/var/log/sai"]

    alter(handbook.folder / "deploy/swarm/log-files.yml", other_folder)
    handbook.block("docker stack deploy --with-registry-auth -c docker-stack.yml -c deploy/swarm/log-files.yml")
    names = {f"sai_proxy.{slot}.log" for slot in range(1, REPLICAS + 2)}

    def all_write() -> bool:
        return all((logs / name).exists() and '"listening"' in (logs / name).read_text() for name in names)

    wait_for(all_write, 120, "a file for each slot")
    for name in names:
        hosts = {json.loads(line)["host"] for line in (logs / name).read_text().splitlines()}
        assert hosts == {f"sai-llm-{name.split('.')[1]}"}


def test_a_killed_replica_is_replaced(stack: None) -> None:
    wait_for(lambda: settled(REPLICAS + 1), 120, "the update before it has ended")
    victim = containers(SERVICE)[0]
    docker("kill", "-s", "KILL", victim)
    wait_for(lambda: victim not in containers(SERVICE) and len(containers(SERVICE)) > REPLICAS, 40, "a new replica")


def test_an_image_that_never_gets_healthy_rolls_back_by_itself(stack: None, image: str) -> None:
    before = images_of_all()
    bad = "sai-proxy:swarm-test-bad"
    docker("build", "-t", bad, "-", input=f'FROM {image}\nCMD ["python", "-c", "import time; time.sleep(600)"]\n')
    docker("service", "update", "--image", bad, "--no-resolve-image", "--detach=true", SERVICE)
    wait_for(lambda: state() == "rollback_completed", 120, "rolled back")
    wait_for(lambda: len(containers(SERVICE)) == REPLICAS + 1, 60, "all replicas healthy")
    assert images_of_all() == before


def test_removing_the_stack_drains(stack: None, handbook: Handbook, image: str) -> None:
    """A stream that runs when the stack is removed ends as it should."""
    command = ["docker", "run", "--rm", "-i", "--network", NETWORK, image, "python", "-"]
    with subprocess.Popen(
        [*command, "[[answer=abcdefghij]][[split=1]][[delay=0.7]]"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(ASK)
        process.stdin.close()
        assert process.stdout.readline() == "begun\n"
        handbook.block("docker stack rm sai_llm")
        answer = process.stdout.read()
    assert answer.count('"delta":{"content":') == 10
    assert answer.rstrip().endswith("data: [DONE]")
    wait_for(lambda: not containers(SERVICE, healthy=False), 90, "every replica gone")


def test_no_command_of_the_handbook_was_left_out(stack: None, handbook: Handbook) -> None:
    """The queries of the log are run by `tests/operations`, `make` by `tests/test_make.py`."""
    if not shutil.which("jq"):
        handbook.excuse("jq")
    elsewhere = ("jq ", "make ") if compose_command() else ("jq ", "make ", "docker compose ")
    assert {line for line in handbook.not_run if not line.startswith(elsewhere)} == set()
