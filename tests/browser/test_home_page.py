"""The home page in a real browser, before the demo: it streams, stops, copies, and loads nothing from elsewhere."""

import asyncio
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support import running_process

NODE = Path(__file__).parent / "node"
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")

pytestmark = pytest.mark.skipif(
    not (CHROMIUM and shutil.which("node") and (NODE / "node_modules" / "playwright-core").is_dir()),
    reason="no Chromium or no Node here, or no packages in tests/browser/node (make test-browser installs them)",
)


async def look(url: str) -> Any:
    assert CHROMIUM is not None
    process = await asyncio.create_subprocess_exec(
        *("node", "page.mjs", f"{url}/", CHROMIUM, os.environ.get("SCREENSHOTS", "")),
        cwd=NODE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 0, errors.decode()
    return json.loads(out)


async def test_the_home_page_in_a_browser() -> None:
    async with running_process({"SAI_COOKIE": ""}, "--demo") as process:
        url = process.proxy.url
        found = await look(url)
    assert found["errors"] == []
    assert found["elsewhere"] == []
    assert (found["language"], found["title"]) == ("es", "DEMO: responde un simulador, no SAI")
    assert found["models"] == ["sai-model", "charla", "vivo", "nativo"]
    assert found["answer"] == "SAI simulator: you wrote «Hola mundo»."
    assert found["grew"], "it streams"
    assert found["stoppable"]
    for fact in ("petición", "primer texto", "17 + ", "en total"):
        assert fact in found["facts"]
    assert found["stopped"].endswith("Detenido.")
    assert "límite de uso" in found["failure"]
    assert set(found["recent"]) == {"200", "429", "499"}
    assert found["plots"] == 4
    assert f'base_url = "{url}/v1"' in found["copied"]
    assert found["switched"] == "Connect your client"
    assert (found["english"], found["wide"]) == ("en", False)
    assert found["axe"] == []
    assert found["axePhone"] == []
