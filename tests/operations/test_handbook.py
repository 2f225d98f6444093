"""The handbooks: their log queries are run, and their tables compared with the code."""

import asyncio
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from sai_proxy import __version__
from sai_proxy.configuration.environment import PLAIN_VARIABLES
from sai_proxy.telemetry.metrics import Metrics
from sai_proxy.telemetry.numbers import Counter, Gauge, Histogram
from tests.documents import ENGLISH, SPANISH, blocks, names, rows, text_of
from tests.support import environment, running_process

QUERIES = [command for command in blocks(ENGLISH, "sh") if command.startswith("jq")]


def test_both_languages_have_the_same_commands_and_chapters() -> None:
    assert set(blocks(ENGLISH, "sh")) < set(blocks(SPANISH, "sh"))
    assert len(QUERIES) == 10
    chapters = [len(re.findall(r"^## ", text, re.MULTILINE)) for text in (ENGLISH, SPANISH)]
    assert chapters[0] + 2 == chapters[1], "quick start and changes are the README's in English"


def test_both_languages_have_the_same_problems_solved() -> None:
    english, spanish = rows(ENGLISH, "| What you see"), rows(SPANISH, "| Qué se ve")
    assert [names(row[0]) for row in english] == [names(row[0]) for row in spanish]


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


def test_every_alert_is_explained() -> None:
    alerts = re.findall(r"alert: (\w+)", text_of("deploy/prometheus/alerts.yml"))
    for text, header in ((ENGLISH, "| Alert "), (SPANISH, "| Alerta ")):
        assert [names(row[0])[0] for row in rows(text, header)] == alerts


@pytest.mark.parametrize(("text", "header"), [(ENGLISH, "| Metric |"), (SPANISH, "| Métrica |")])
def test_every_metric_is_explained_with_its_labels(text: str, header: str) -> None:
    documented = {names(row[0])[0]: set(names(row[1])) for row in rows(text, header)}
    metrics = [metric for metric in vars(Metrics()).values() if isinstance(metric, Counter | Gauge | Histogram)]
    ours = {metric.name + "_total" * isinstance(metric, Counter): set(metric.labels) for metric in metrics}
    assert documented == ours | {"sai_proxy_info": {"version"}}


def test_the_stack_file_passes_every_variable_on() -> None:
    stack = text_of("docker-stack.yml")
    passed = set(re.findall(r"^      ([A-Z_]+):", stack, re.MULTILINE))
    fixed = {"HOST", "PORT"}
    lists = {"SAI_URL", "SAI_TEMPLATE_ID", "SAI_KEY", "SAI_COOKIE", "SAI_MODELS", "ACCESS_TOKENS", "PLACEHOLDER_KEYS"}
    assert passed == (set(PLAIN_VARIABLES) - fixed) | lists | {
        "CORS_ORIGINS",
        "RETRY_STATUSES",
        "SAI_TEMPLATE_INPUTS",
        "RESPONSES_STORE",
        "KEY_ID_SALT",
        "TRUSTED_PROXIES",
        "TZ",
        "WORKERS",
    }


def test_the_image_is_labelled_with_the_version() -> None:
    assert f"ARG VERSION={__version__}\n" in text_of("Dockerfile")
