"""`make run`, as typed: with a file of variables, with variables alone, and with neither."""

import asyncio
import os
import shutil
import signal
import sys
from pathlib import Path

import aiohttp
import pytest

from sai_proxy.simulator import Simulator
from tests.support import ROOT, TEMPLATE, free_port, until

pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="no make on this machine")


async def models_of_make_run(env_file: Path, **env: str) -> str:
    """What the started server says at `/v1/models`."""
    port = free_port()
    venv = Path(sys.prefix)
    process = await asyncio.create_subprocess_exec(
        *("make", "run", f"ENV_FILE={env_file}", f"VENV={venv}", "--assume-old", f"{venv}/run.stamp"),
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "HOST": "127.0.0.1", "PORT": str(port), **env},
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(30), aiohttp.ClientSession() as session:
            while b'"listening"' not in await process.stdout.readline():
                assert process.returncode is None
            async with session.get(f"http://127.0.0.1:{port}/v1/models") as response:
                return await response.text()
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        await process.communicate()
        await until(lambda: process.returncode is not None)


async def test_make_run_reads_the_file(sai: Simulator, tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text(f"SAI_URL={sai.url}\nSAI_TEMPLATE_ID={TEMPLATE}\nSAI_KEY='k$1'\nSAI_MODELS=from-file\n")
    assert "from-file" in await models_of_make_run(file)
    assert "from-environment" in await models_of_make_run(file, SAI_MODELS="from-environment")


async def test_make_run_takes_variables_without_a_file(sai: Simulator, tmp_path: Path) -> None:
    env = {"SAI_URL": sai.url, "SAI_TEMPLATE_ID": TEMPLATE, "SAI_KEY": "k", "SAI_MODELS": "from-environment"}
    assert "from-environment" in await models_of_make_run(tmp_path / "none", **env)


async def test_make_run_starts_the_demo_without_either(tmp_path: Path) -> None:
    assert "sai-model" in await models_of_make_run(tmp_path / "none")
