"""Coding agents, run without a person in front of them, as their users would point them at the proxy."""

import asyncio
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
NODE = Path(__file__).parent / "node" / "node_modules" / ".bin"
TIMEOUT_S = 120

Environment = dict[str, str]


class Outcome(NamedTuple):
    """How an agent ended. output: all that it printed."""

    exit_code: int
    output: str


@dataclass(frozen=True)
class Agent:
    """program: its path. arguments: its command line for a prompt. prepare: writes its settings into the folder
    that it works in, for a base URL and a key, and returns its variables."""

    program: Path
    arguments: Callable[[str], list[str]]
    prepare: Callable[[Path, str, str], Environment]

    @property
    def installed(self) -> bool:
        return self.program.exists()

    async def run(self, prompt: str, folder: Path, base_url: str, key: str = "raspberry") -> Outcome:
        """Work on a prompt in `folder`, which is also where its home is."""
        home = folder.parent / "home"
        home.mkdir(exist_ok=True)
        variables = self.prepare(folder, base_url, key)
        process = await asyncio.create_subprocess_exec(
            str(self.program),
            *self.arguments(prompt),
            cwd=folder,
            env={
                "PATH": f"{NODE}:{os.environ['PATH']}",
                "HOME": str(home),
                "TERM": "dumb",
                "NO_COLOR": "1",
                "CI": "1",
                **variables,
            },
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            output, _ = await asyncio.wait_for(process.communicate(), TIMEOUT_S)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode is not None
        return Outcome(process.returncode, output.decode(errors="replace"))


def _prepare_opencode(folder: Path, base_url: str, key: str) -> Environment:
    model = {"name": "SAI", "limit": {"context": 128000, "output": 8192}}
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "SAI",
        "options": {"baseURL": base_url, "apiKey": key},
        "models": {"sai-model": model},
    }
    settings = {
        "autoupdate": False,
        "share": "disabled",
        "model": "sai/sai-model",
        "small_model": "sai/sai-model",
        "provider": {"sai": provider},
    }
    (folder / "opencode.json").write_text(json.dumps(settings))
    return {"OPENCODE_DISABLE_AUTOUPDATE": "1", "OPENCODE_DISABLE_MODELS_FETCH": "1"}


_CONTINUE = """name: t
version: 1.0.0
schema: v1
models:
  - {{name: SAI, provider: openai, model: sai-model, apiBase: "{base_url}", apiKey: "{key}",
     roles: [chat, edit, apply], capabilities: [tool_use]}}
"""


def _prepare_continue(folder: Path, base_url: str, key: str) -> Environment:
    (folder / "config.yaml").write_text(_CONTINUE.format(base_url=base_url, key=key))
    return {"CONTINUE_TELEMETRY_ENABLED": "0"}


def _prepare_mini(folder: Path, base_url: str, key: str) -> Environment:
    return {
        "OPENAI_API_BASE": base_url,
        "OPENAI_API_KEY": key,
        "MSWEA_CONFIGURED": "true",
        "MSWEA_COST_TRACKING": "ignore_errors",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }


def _prepare_aider(folder: Path, base_url: str, key: str) -> Environment:
    return {"OPENAI_API_BASE": base_url, "OPENAI_API_KEY": key, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}


_CODEX = re.search(r"```toml\n(.*?)```", (ROOT / "docs/clients.md").read_text(), re.DOTALL)
"""As the clients' guide has them."""


def _prepare_codex(folder: Path, base_url: str, key: str) -> Environment:
    home = folder.parent / "home" / ".codex"
    home.mkdir(exist_ok=True)
    assert _CODEX is not None
    (home / "config.toml").write_text(_CODEX[1].replace("http://localhost:4000/v1", base_url))
    return {"SAI_API_KEY": key}


def codex(*options: str) -> "Agent":
    """Codex CLI without a person, with further options of `codex exec`."""
    fixed = ("exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox")
    return Agent(NODE / "codex", lambda prompt: [*fixed, *options, prompt], _prepare_codex)


_AIDER_OPTIONS = (
    *("--model", "openai/sai-model", "--edit-format", "whole", "--yes-always", "--no-git", "--no-check-update"),
    *("--no-show-model-warnings", "--no-analytics", "--no-pretty", "--message"),
)

OPENCODE = Agent(NODE / "opencode", lambda prompt: ["run", prompt], _prepare_opencode)
CONTINUE = Agent(NODE / "cn", lambda prompt: ["--config", "config.yaml", "--auto", "-p", prompt], _prepare_continue)
MINI = Agent(
    ROOT / ".venv-agent-mini" / "bin" / "mini",
    lambda prompt: ["-m", "openai/sai-model", "-y", "--exit-immediately", "-t", prompt],
    _prepare_mini,
)
CODEX = codex()
AIDER = Agent(ROOT / ".venv-agent-aider" / "bin" / "aider", lambda prompt: [*_AIDER_OPTIONS, prompt], _prepare_aider)
