"""The `llm` command line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clients.background import Background
from tests.clients.contract import KEY, TEXT
from tests.support import Proxy

pytest.importorskip("llm", reason="requirements/clients.lock is not installed")


@pytest.fixture
def home(served: Proxy, tmp_path: Path) -> Path:
    (tmp_path / "extra-openai-models.yaml").write_text(
        f"- model_id: sai\n  model_name: sai-model\n  api_base: {served.url}/v1\n  api_key_name: openai\n"
    )
    return tmp_path


def start(home: Path, *arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "llm", "-m", "sai", "--key", KEY, *arguments]
    env = {**os.environ, "LLM_USER_PATH": str(home), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("mode", [[], ["--no-stream"]])
def test_it_prints_the_exact_answer(home: Path, world: Background, mode: list[str]) -> None:
    import json

    out, errors = start(home, *mode, f"[[answer={json.dumps(TEXT)}]][[split=5]]").communicate(timeout=60)
    assert out.rstrip("\n") == TEXT, errors
    assert world.sai.calls[-1].key == KEY


@pytest.mark.parametrize("mode", [[], ["--no-stream"]])
@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, "not valid for this template"),
        (401, "not valid or has expired"),
        (403, "shared with"),
        (404, "template"),
        (500, "internal error"),
    ],
)
def test_it_tells_the_error(home: Path, mode: list[str], status: int, words: str) -> None:
    process = start(home, *mode, f"[[status={status}]]")
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert words in errors


def test_it_shows_usage(home: Path) -> None:
    _, errors = start(home, "--usage", "[[usage=12,34]]").communicate(timeout=60)
    assert "12 input, 34 output" in errors


def test_it_tells_that_an_answer_broke_off(home: Path) -> None:
    process = start(home, "[[chars=40]][[split=1]][[delay=0.005]][[reset=middle]]")
    out, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert out.startswith("El veloz")
    assert "cut off" in errors


def test_interrupting_it_ends_the_call_to_sai(home: Path, world: Background) -> None:
    with start(home, "[[chars=40]][[split=1]][[delay=0.01]][[stall=30]]") as process:
        assert process.stdout is not None
        assert process.stdout.read(1)
        process.kill()
    world.wait_until_ended(world.sai.calls[-1])
