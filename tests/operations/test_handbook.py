"""The handbooks: their log queries are run, and their tables compared with the code."""

import asyncio
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from sai_proxy.environment import PLAIN_VARIABLES
from sai_proxy.error_table import ERROR_TABLE
from sai_proxy.simulator import Simulator
from tests.support import ROOT, environment, running_process

ENGLISH, SPANISH = ((ROOT / path).read_text() for path in ("docs/operations.md", "docs/es/operaciones.md"))


def commands(text: str) -> list[str]:
    return re.findall(r"```sh\n(.*?)```", text, re.DOTALL)


QUERIES = [command for command in commands(ENGLISH) if command.startswith("jq")]


def test_both_languages_have_the_same_commands() -> None:
    assert set(commands(ENGLISH)) < set(commands(SPANISH))
    assert len(QUERIES) == 8


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The log of a server that has seen something of everything."""
    folder = tmp_path_factory.mktemp("log")

    async def make() -> None:
        from sai_proxy.simulator import simulator

        async with simulator() as sai, running_process(environment(sai.url)) as process:
            await process.proxy.ask(headers={"X-Request-ID": "a1b2c3d4", "user_api_key": "mine"})
            await process.proxy.ask("[[silence=1.1]]")
            for text in ("[[status=500]]", "[[status=401]]"):
                await process.proxy.ask(text)
            await process.proxy.ask(headers={"user_api_key": "limited"})
            (folder / "sai.log").write_text(await process.stop())

    asyncio.run(make())
    return folder


@pytest.mark.skipif(not shutil.which("jq"), reason="no jq on this machine")
@pytest.mark.parametrize("query", QUERIES)
def test_a_query_of_the_log_finds_something(log: Path, query: str) -> None:
    run = subprocess.run(["bash", "-euo", "pipefail", "-c", query], cwd=log, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip()
    assert "null" not in run.stdout.replace('"key_place":null', "")


def test_every_alert_and_every_error_is_explained(sai: Simulator) -> None:
    alerts = re.findall(r"alert: (\w+)", (ROOT / "deploy/prometheus/alerts.yml").read_text())
    for text in (ENGLISH, SPANISH):
        assert all(f"`{alert}`" in text for alert in alerts)
    assert {row.code for row in ERROR_TABLE.values() if row.code} <= set(re.findall(r"`(\w+)`", SPANISH))


def test_the_stack_file_passes_every_variable_on() -> None:
    stack = (ROOT / "docker-stack.yml").read_text()
    passed = set(re.findall(r"^      ([A-Z_]+):", stack, re.MULTILINE))
    fixed = {"HOST", "PORT"}
    lists = {"SAI_URL", "SAI_TEMPLATE_ID", "SAI_KEY", "SAI_COOKIE", "SAI_MODELS", "ACCESS_TOKENS", "PLACEHOLDER_KEYS"}
    assert passed == (set(PLAIN_VARIABLES) - fixed) | lists | {"CORS_ORIGINS"}
