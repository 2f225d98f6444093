"""What the stack and compose files promise, as far as no engine is needed to see it."""

from typing import Any

import pytest
import yaml

from sai_proxy.configuration.environment import read_settings
from sai_proxy.telemetry.tracing import CLOSE_TIMEOUT_S
from tests.documents import text_of
from tests.support import environment

STACK = yaml.safe_load(text_of("docker-stack.yml"))
SERVICE: dict[str, Any] = STACK["services"]["sai_llm"]
DEPLOY: dict[str, Any] = SERVICE["deploy"]


def default(text: str) -> str:
    """Of `${NAME:-default}`."""
    return text.rsplit(":-", 1)[1].rstrip("}")


def test_the_predecessors_contract_is_kept() -> None:
    assert set(STACK["services"]) == {"sai_llm"}
    (port,) = SERVICE["ports"]
    assert (port["target"], default(port["published"])) == (4000, "4000")
    assert default(DEPLOY["replicas"]) == "8"
    assert DEPLOY["placement"]["constraints"] == [
        "node.labels.db != true",
        "node.labels.type != master",
        "node.labels.type != test",
        "node.role == ${NODE_ROLE:-worker}",
    ]
    assert {secret["target"] for secret in SERVICE["secrets"]} == {"SAI_KEY", "SAI_COOKIE"}
    assert {name: (s["external"], default(s["name"])) for name, s in STACK["secrets"].items()} == {
        "SAI_KEY": (True, "SAI_KEY"),
        "SAI_COOKIE": (True, "SAI_COOKIE"),
    }


def test_a_replica_may_take_its_time_to_stop() -> None:
    """Longer than draining, the answers' time and what may follow: last events, traces, the log."""
    variables = SERVICE["environment"]
    own = sum(float(default(variables[name])) for name in ("DRAIN_DELAY", "SHUTDOWN_TIMEOUT"))
    grace = float(default(SERVICE["stop_grace_period"]).removesuffix("s"))
    assert grace >= own + 1 + CLOSE_TIMEOUT_S + 2


def test_updates_lose_nothing_and_take_themselves_back() -> None:
    update = DEPLOY["update_config"]
    assert (update["order"], update["parallelism"], update["failure_action"]) == ("start-first", 1, "rollback")
    assert DEPLOY["rollback_config"]["order"] == "start-first"
    assert DEPLOY["restart_policy"]["condition"] == "any"
    assert SERVICE["healthcheck"]["test"] == ["CMD", "python", "-m", "sai_proxy", "healthcheck"]


def test_a_replica_is_confined_and_bounded() -> None:
    assert (SERVICE["init"], SERVICE["read_only"], SERVICE["cap_drop"]) == (True, True, ["ALL"])
    assert set(SERVICE["logging"]["options"]) == {"max-size", "max-file"}
    limit = int(DEPLOY["resources"]["limits"]["memory"].removesuffix("M")) * 2**20
    settings = read_settings(environment("http://sai"))
    assert limit >= 250 * 2**20 + settings.max_buffered_bytes, "what was measured under attack, see docs/reliability.md"
    assert set(DEPLOY["resources"]["reservations"]) == {"cpus", "memory"}


@pytest.mark.parametrize("file", ["docker-compose.yml", "deploy/swarm/monitoring.yml"])
def test_images_of_others_are_pinned_and_can_be_replaced(file: str) -> None:
    services = yaml.safe_load(text_of(file))["services"]
    for name in ("prometheus", "grafana"):
        image = services[name]["image"]
        assert image.startswith(f"${{{name.upper()}_IMAGE:-")
        assert default(image).rsplit(":", 1)[1][-1].isdigit()
