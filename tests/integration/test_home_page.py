"""The home page's own data, and who may see it."""

import json
import time
from typing import Any

import pytest

from sai_proxy.http.home_page import HOME, preferred_language
from sai_proxy.telemetry import recent
from sai_proxy.telemetry.recent import Recent
from sai_proxy.telemetry.record import RequestRecord
from tests.conftest import StartProxy
from tests.support import USER_KEY, Proxy


async def get(proxy: Proxy, path: str, **headers: str) -> Any:
    async with proxy.session.get(proxy.url + path, headers=headers) as response:
        return response.status, response.headers.copy(), await response.text()


async def test_a_browser_gets_the_page_and_all_others_json(proxy: Proxy) -> None:
    status, headers, text = await get(proxy, "/", Accept="text/html,application/xhtml+xml", **{"Accept-Language": "en"})
    assert (status, headers["Content-Type"].split(";")[0]) == (200, "text/html")
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert '<html lang="en">' in text
    assert "//" not in text.replace("<!doctype", "")
    status, headers, text = await get(proxy, "/", Accept="*/*")
    assert json.loads(text)["name"] == "sai-proxy"


async def test_the_page_loads_what_is_here(proxy: Proxy) -> None:
    for file in HOME.iterdir():
        status, headers, text = await get(proxy, f"/home/{file.name}")
        if file.name == "index.html":
            assert status == 404
            continue
        assert (status, text) == (200, file.read_text())
        assert headers["X-Content-Type-Options"] == "nosniff"
    assert (await get(proxy, "/home/..%2fpages.py"))[0] == 404


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("", "es"),
        ("es-EC,es;q=0.9,en;q=0.8", "es"),
        ("en-US,en;q=0.9,es;q=0.8", "en"),
        ("fr,en;q=0.5,es;q=0.7", "es"),
        ("de", "es"),
        ("en;q=x,es;q=0.1", "es"),
        ("EN", "en"),
    ],
)
def test_the_language_is_the_users(accepted: str, language: str) -> None:
    assert preferred_language(accepted) == language


async def test_the_figures_hold_no_text_and_no_key(proxy: Proxy) -> None:
    await proxy.ask("canary-text", headers={"Authorization": f"Bearer {USER_KEY}"})
    await proxy.ask("canary-text [[status=500]]")
    await proxy.get("/v1/models")
    _, headers, text = await get(proxy, "/home/figures.json")
    assert headers["Cache-Control"] == "no-store"
    figures = json.loads(text)
    assert [(one["status"], one.get("error")) for one in figures["recent"]] == [(502, "upstream_error"), (200, None)]
    assert (figures["requests"], figures["failures"], figures["in_flight"]) == (2, 1, 0)
    assert figures["series"]["failures"]["sai"][-1] == 1
    assert figures["first_text_p50_s"] > 0
    assert "canary" not in text
    assert USER_KEY not in text


async def test_the_figures_are_behind_the_access_tokens(start_proxy: StartProxy) -> None:
    proxy = await start_proxy(ACCESS_TOKENS="the-token")
    assert (await get(proxy, "/home/figures.json"))[0] == 401
    assert (await get(proxy, "/home/figures.json", Authorization="Bearer another"))[0] == 401
    assert (await get(proxy, "/home/figures.json", Authorization="Bearer the-token"))[0] == 200
    assert (await get(proxy, "/home/server.json"))[0] == 200


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000_000.0
    monkeypatch.setattr(time, "time", lambda: now)
    seen = Recent()
    for number in range(5_000):
        now += 1
        seen.add(RequestRecord(status=200, model="m", ttfb_s=float(number % 100) / 100, completion_tokens=15), now)
    figures = seen.figures(3)
    assert len(figures["recent"]) == recent.MAX_REQUESTS
    assert len(figures["series"]["time"]) == recent.INTERVALS
    assert figures["series"]["time"] == sorted(figures["series"]["time"])
    assert 880 < figures["requests"] <= 900
    assert figures["tokens_per_s"] == pytest.approx(15, rel=0.05)
    assert figures["first_text_p95_s"] > figures["first_text_p50_s"]
    now += 7_200
    assert seen.figures(0)["requests"] == 0
    assert time.time() == now
