"""`make run`, as typed: with a file of variables, with variables alone, and with neither."""

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import pytest

from sai_proxy.simulator import Simulator
from tests.support import ROOT, TEMPLATE, free_port

pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="no make on this machine")


@asynccontextmanager
async def make(target: str, *variables: str, **env: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """`make`, and what it has started, with the environment that this suite runs in."""
    venv = Path(sys.prefix)
    process = await asyncio.create_subprocess_exec(
        *("make", target, *variables, f"VENV={venv}", "--assume-old", f"{venv}/run.stamp"),
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "HOST": "127.0.0.1", **env},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        await process.communicate()


async def until_listening(process: asyncio.subprocess.Process) -> None:
    assert process.stdout is not None
    async with asyncio.timeout(30):
        while b'listening"' not in (line := await process.stdout.readline()):
            assert line, "it ended"


async def models_of_make_run(env_file: Path, **env: str) -> str:
    """What the started server says at `/v1/models`."""
    port = free_port()
    async with make("run", f"ENV_FILE={env_file}", PORT=str(port), **env) as process:
        await until_listening(process)
        async with aiohttp.request("GET", f"http://127.0.0.1:{port}/v1/models") as response:
            return await response.text()


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


async def test_make_check_shows_the_configuration_and_its_faults(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("SAI_URL=http://sai\nSAI_TEMPLATE_ID=t\nSAI_KEY=canary\nMAX_RETRIES=many\n")
    async with make("check", f"ENV_FILE={file}") as process:
        out, _ = await process.communicate()
    assert process.returncode != 0
    assert b"MAX_RETRIES" in out
    async with make("check", f"ENV_FILE={file}", MAX_RETRIES="5") as process:
        out, _ = await process.communicate()
    assert (process.returncode, b"MAX_RETRIES=5" in out, b"canary" in out) == (0, True, False)


async def test_make_simulate_runs_the_simulator() -> None:
    port = free_port()
    async with make("simulate", f"SIMULATOR_PORT={port}") as process, aiohttp.ClientSession() as session:
        await until_listening(process)
        url = f"http://127.0.0.1:{port}/api/templates/{TEMPLATE}/execute"
        async with session.post(url, json={"inputs": {"user": "hi"}}, headers={"X-Api-Key": "k"}) as response:
            assert (response.status, await response.text()) == (200, "SAI simulator: you wrote «hi».")
