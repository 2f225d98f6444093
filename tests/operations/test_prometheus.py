"""The metrics, the alert rules and the dashboard, against a real Prometheus."""

import asyncio
import json
import re
import shutil
import subprocess
import time
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from sai_proxy.conversation.ide_prompt import WRAPPERS
from sai_proxy.errors.table import ERROR_TABLE
from sai_proxy.simulator import Simulator
from sai_proxy.telemetry.record import CLIENT_STALLED
from tests.conftest import StartProxy
from tests.documents import text_of
from tests.support import ROOT, Proxy, chat, environment, free_port, running_process, until

DEPLOY = ROOT / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana/dashboards/sai-proxy.json").read_text())

needs_prometheus = pytest.mark.skipif(
    not (shutil.which("prometheus") and shutil.which("promtool")), reason="no prometheus and promtool on this machine"
)


def samples(text: str, name: str) -> dict[str, float]:
    """Values of a metric, by its labels as they are written."""
    found = re.findall(rf"^{name}(?:{{(.*)}})? (\S+)$", text, re.MULTILINE)
    return {labels: float(value) for labels, value in found}


async def metrics_of(proxy: Proxy) -> str:
    return (await proxy.get("/metrics")).text


async def traffic(sai: Simulator, proxy: Proxy) -> None:
    """Something of everything that is counted."""
    for stream in (False, True):
        await proxy.ask("[[usage=7,5]]", stream=stream)
        await proxy.ask("[[usage=none]][[pieces=3]][[delay=0.01]]", stream=stream)
    await proxy.ask(headers={"x-api-key": "mine"})
    await proxy.ask(headers={"x-api-key": "limited"})
    await proxy.ask(f"[[status=503]][[times=1]][[answer={len(sai.calls)}]]")
    await proxy.ask("[[status=500]]")
    await proxy.ask("[[status=401]]")
    await proxy.ask("x" * 4_000)
    await proxy.ask(f"{WRAPPERS[0].before}hi{WRAPPERS[0].after}")
    await proxy.ask(model="nobody-knows-this")
    await proxy.get("/nowhere/at/all")
    await proxy.get("/v1/models/sai-model")
    leaving = asyncio.ensure_future(proxy.ask("[[silence=forever]]", stream=True))
    before = len(sai.calls)
    await until(lambda: len(sai.calls) > before)
    leaving.cancel()
    await asyncio.wait_for(sai.calls[-1].ended.wait(), 5)
    await until(lambda: not proxy.lifecycle.answering)


async def test_what_is_counted(sai: Simulator, start_proxy: StartProxy) -> None:
    proxy = await start_proxy(MAX_RETRIES="1", CONTEXT_LIMIT_TOKENS="500")
    await traffic(sai, proxy)
    text = await metrics_of(proxy)
    route = 'route="/v1/chat/completions"'
    requests = samples(text, "sai_proxy_requests_total")
    assert requests[f'code="none",fault="none",model="sai-model",{route},status="200"'] == 8
    assert requests[f'code="upstream_error",fault="sai",model="sai-model",{route},status="502"'] == 1
    assert requests[f'code="upstream_auth",fault="sai",model="sai-model",{route},status="401"'] == 1
    assert requests[f'code="context_length_exceeded",fault="policy",model="sai-model",{route},status="200"'] == 1
    assert requests[f'code="model_not_found",fault="caller",model="",{route},status="404"'] == 1
    assert requests['code="invalid_request_error",fault="caller",model="",route="unknown",status="404"'] == 1
    assert requests['code="none",fault="none",model="",route="/v1/models/{id}",status="200"'] == 1
    assert requests[f'code="none",fault="none",model="sai-model",{route},status="499"'] == 1
    assert samples(text, "sai_proxy_client_disconnects_total") == {route: 1}
    assert samples(text, "sai_proxy_retries_total") == {"": 1}
    assert samples(text, "sai_proxy_fallbacks_total") == {"": 1}
    assert samples(text, "sai_proxy_guard_hits_total") == {"": 1}
    assert samples(text, "sai_proxy_unwrapped_messages_total") == {"": 1}
    assert samples(text, "sai_proxy_credentials_total")['credential="user_key"'] == 1
    assert samples(text, "sai_proxy_credentials_total")['credential="system_cookie"'] == 1
    tokens = samples(text, "sai_proxy_tokens_total")
    assert tokens['direction="output",estimated="true",model="sai-model"'] > 0
    assert tokens['direction="input",estimated="false",model="sai-model"'] > 0
    assert samples(text, "sai_proxy_requests_in_flight") == {"": 0}
    assert samples(text, "sai_proxy_streams_in_flight") == {"": 0}
    for name in ("gen_ai_server_time_to_first_token_seconds", "gen_ai_server_request_duration_seconds"):
        assert samples(text, f"{name}_count")[f'model="sai-model",{route}'] >= 8
    assert samples(text, "gen_ai_server_time_per_output_token_seconds_count") == {f'model="sai-model",{route}': 2}
    assert samples(text, "sai_proxy_overhead_seconds_count")[route] > 8
    assert samples(text, "sai_proxy_sai_wait_seconds_sum")['model="sai-model"'] > 0.1


async def test_tokens_and_times_are_what_they_were(sai: Simulator, proxy: Proxy) -> None:
    """The first text comes at once, and two pauses of 200 ms follow: they are SAI's."""
    await proxy.ask("[[usage=7,5]][[pieces=3]][[delay=0.2]]", stream=True)
    text = await metrics_of(proxy)
    tokens = samples(text, "sai_proxy_tokens_total")
    assert tokens['direction="input",estimated="false",model="sai-model"'] == 7
    assert tokens['direction="output",estimated="false",model="sai-model"'] == 5

    def seconds(name: str) -> float:
        (value,) = samples(text, f"{name}_seconds_sum").values()
        return value

    duration = seconds("gen_ai_server_request_duration")
    assert duration >= 0.4
    for part in ("gen_ai_server_time_to_first_token", "sai_proxy_overhead"):
        assert 0 < seconds(part) <= duration - 0.35, part
    assert 0.4 <= seconds("sai_proxy_sai_wait") <= duration
    per_token = seconds("gen_ai_server_time_per_output_token")
    assert 0.35 / 4 <= per_token <= duration / 4, "of a first text that may have been seen late"


async def test_a_slow_upload_is_no_overhead(proxy: Proxy) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield json.dumps(chat("hi")).encode()[:-1]
        await asyncio.sleep(0.3)
        yield b"}"

    url = f"{proxy.url}/v1/chat/completions"
    async with proxy.session.post(url, data=body()) as response:
        assert response.status == 200
    text = await metrics_of(proxy)
    (overhead,) = samples(text, "sai_proxy_overhead_seconds_sum").values()
    (duration,) = samples(text, "gen_ai_server_request_duration_seconds_sum").values()
    assert overhead <= duration - 0.25


async def test_what_runs_now_is_in_flight(sai: Simulator, proxy: Proxy) -> None:
    running = [asyncio.ensure_future(proxy.ask("[[silence=forever]]", stream=stream)) for stream in (True, False)]
    await until(lambda: len(sai.calls) == 2)
    text = await metrics_of(proxy)
    assert samples(text, "sai_proxy_requests_in_flight") == {"": 2}
    assert samples(text, "sai_proxy_streams_in_flight") == {"": 1}
    for asking in running:
        asking.cancel()


async def test_a_blocked_loop_is_seen(proxy: Proxy) -> None:
    time.sleep(1)  # noqa: ASYNC251 (what is measured)
    async with asyncio.timeout(5):
        while samples(await metrics_of(proxy), "sai_proxy_event_loop_lag_seconds_sum")[""] < 0.3:
            await asyncio.sleep(0.05)


async def test_every_kind_of_failure_starts_at_0_and_counts_by_whose_fault_it_was(start_proxy: StartProxy) -> None:
    proxy = await start_proxy(SAI_URL=f"http://127.0.0.1:{free_port()}")
    before = samples(await metrics_of(proxy), "sai_proxy_failures_total")
    kinds = {f'code="{row.code or row.type}",fault="{kind.fault}"' for kind, row in ERROR_TABLE.items()}
    kinds.add(f'code="{CLIENT_STALLED}",fault="caller"')
    assert before == dict.fromkeys(kinds, 0)
    await proxy.ask()
    await proxy.ask(model="nobody-knows-this")
    after = samples(await metrics_of(proxy), "sai_proxy_failures_total")
    assert {kind for kind in kinds if after[kind]} == {
        'code="upstream_unreachable",fault="sai"',
        'code="model_not_found",fault="caller"',
    }


async def test_no_key_and_no_unknown_value_is_a_label(start_proxy: StartProxy) -> None:
    proxy = await start_proxy(SAI_KEY="canary-key")
    for text in ("hi", "[[status=401]]"):
        await proxy.ask(text, headers={"x-api-key": "canary-users-key"})
    await proxy.ask(model="canary-model")
    await proxy.get("/canary-path")
    text = await metrics_of(proxy)
    assert "canary" not in text
    codes = set(re.findall(r'code="([^"]*)"', text))
    assert codes <= {row.code or row.type for row in ERROR_TABLE.values()} | {"none", CLIENT_STALLED}


async def test_a_port_of_their_own_takes_the_metrics_off_the_main_one(sai: Simulator) -> None:
    port = free_port()
    async with running_process(environment(sai.url, METRICS_PORT=str(port))) as process:
        assert (await process.proxy.get("/metrics")).status == 404
        await process.proxy.ask()
        async with process.proxy.session.get(f"http://127.0.0.1:{port}/metrics") as response:
            assert samples(await response.text(), "sai_proxy_credentials_total") == {'credential="system_key"': 1}
            assert response.headers["Server"] == "sai-proxy"
        async with process.proxy.session.get(f"http://127.0.0.1:{port}/v1/models") as response:
            assert response.status == 404
            assert (await response.json())["error"]["type"] == "invalid_request_error"


@needs_prometheus
async def test_promtool_finds_nothing_to_say_about_the_metrics(sai: Simulator, proxy: Proxy) -> None:
    await traffic(sai, proxy)
    check = subprocess.run(
        ["promtool", "check", "metrics"], input=await metrics_of(proxy), capture_output=True, text=True
    )
    assert (check.returncode, check.stdout + check.stderr) == (0, "")


@needs_prometheus
def test_the_alert_rules_pass_their_own_tests() -> None:
    run = subprocess.run(
        ["promtool", "test", "rules", "alerts_test.yml"], cwd=DEPLOY / "prometheus", capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout + run.stderr
    tested = set(re.findall(r"alertname: (\w+)", (DEPLOY / "prometheus/alerts_test.yml").read_text()))
    assert tested == set(re.findall(r"alert: (\w+)", (DEPLOY / "prometheus/alerts.yml").read_text()))


@asynccontextmanager
async def prometheus(target: str, folder: Path) -> AsyncIterator[str]:
    """A real Prometheus that scrapes `target` every half second with the deployed rules; its URL."""
    port = free_port()
    config = (DEPLOY / "prometheus/prometheus.yml").read_text()
    (folder / "prometheus.yml").write_text(config.replace("sai_llm:4000", target).replace("15s", "500ms"))
    shutil.copy(DEPLOY / "prometheus/alerts.yml", folder)
    process = await asyncio.create_subprocess_exec(
        "prometheus",
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()


async def query(session: aiohttp.ClientSession, url: str, expression: str) -> list[Any]:
    """Its results but for those that are no number; none while Prometheus starts."""
    try:
        async with session.get(f"{url}/api/v1/query", params={"query": expression}) as response:
            if response.status == 503:
                return []
            body = await response.json()
    except aiohttp.ClientConnectionError:
        return []
    assert body["status"] == "success", (expression, body)
    return [result for result in body["data"]["result"] if result["value"][1] != "NaN"]


def as_grafana_asks(expression: str) -> str:
    """With Grafana's variables replaced, those of the dashboard by all of their values."""
    for name, value in {"$__rate_interval": "1m", "$model": ".*", "$replica": ".*"}.items():
        expression = expression.replace(name, value)
    return expression


def test_every_panel_has_a_unit_and_says_what_it_shows() -> None:
    for panel in DASHBOARD["panels"]:
        assert panel["description"], panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
    assert {variable["name"] for variable in DASHBOARD["templating"]["list"]} == {"model", "replica"}
    assert [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "stat"] == [
        *("Request rate", "Error ratio", "First text, p95", "Tokens a minute")
    ]


def test_every_alert_says_what_to_do_and_where_more_stands() -> None:
    rules = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())["groups"][0]["rules"]
    for rule in rules:
        assert "What to do:" in rule["annotations"]["description"]
        file, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        assert (ROOT / file).is_file()
        assert anchor == "metrics-and-alerts"


@needs_prometheus
async def test_no_panel_of_the_dashboard_is_empty(sai: Simulator, start_proxy: StartProxy, tmp_path: Path) -> None:
    proxy = await start_proxy(MAX_RETRIES="1", CONTEXT_LIMIT_TOKENS="500")
    missing = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    assert len(missing) > 20
    async with prometheus(proxy.url.removeprefix("http://"), tmp_path) as url:
        await traffic(sai, proxy)
        async with asyncio.timeout(60):
            while not await query(proxy.session, url, 'up{job="sai-proxy"} == 1'):
                await asyncio.sleep(0.2)
            await traffic(sai, proxy)
            while missing:
                await asyncio.sleep(0.5)
                missing = [
                    expression
                    for expression in missing
                    if not await query(proxy.session, url, as_grafana_asks(expression))
                ]
    assert missing == []


def test_grafanas_own_types_know_every_field_of_the_dashboard() -> None:
    """Grafana's SDK reads it and writes it again; what it does not know it drops."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of its own, about the format before v2
        from grafana_foundation_sdk.cog import encoder, plugins
        from grafana_foundation_sdk.models.dashboard import Dashboard

        plugins.register_default_plugins()
        read = Dashboard.from_json(DASHBOARD)
    assert parts_of(DASHBOARD) <= parts_of(json.loads(json.dumps(read, cls=encoder.JSONEncoder)))


def parts_of(value: Any, path: str = "") -> set[tuple[str, Any]]:
    """Every leaf with its place."""
    if isinstance(value, dict | list) and value:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return set().union(*(parts_of(item, f"{path}/{name}") for name, item in items))
    return {(path, repr(value))}


@pytest.mark.parametrize("panel", DASHBOARD["panels"], ids=lambda panel: panel["title"])
def test_every_panel_asks_the_provisioned_source(panel: dict[str, Any]) -> None:
    (source,) = yaml.safe_load(text_of("deploy/grafana/provisioning/datasources/prometheus.yml"))["datasources"]
    expected = {"type": source["type"], "uid": source["uid"]}
    assert panel["datasource"] == expected
    assert all(target["datasource"] == expected for target in panel["targets"])


@needs_prometheus
@pytest.mark.parametrize("config", ["prometheus/prometheus.yml", "swarm/prometheus.yml"])
def test_prometheus_accepts_the_deployed_configuration(config: str, tmp_path: Path) -> None:
    for file in (config, "prometheus/alerts.yml"):
        shutil.copy(DEPLOY / file, tmp_path)
    check = subprocess.run(
        ["promtool", "check", "config", "prometheus.yml"], cwd=tmp_path, capture_output=True, text=True
    )
    assert check.returncode == 0, check.stderr
