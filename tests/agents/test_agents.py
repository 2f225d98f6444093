"""Real coding agents complete their loop through the proxy: they call a tool, get its result, and end."""

import json
from pathlib import Path
from typing import Any

import pytest

from sai_proxy.simulator import simulator
from tests.agents.agents import AIDER, CODEX, CONTINUE, MINI, OPENCODE, Agent
from tests.agents.scripted_sai import Script, scripted_sai
from tests.support import running_proxy

MARK = "A42B"
"""What only running the command prints."""


def call(name: str, **arguments: Any) -> str:
    """A call as a model writes it that follows the proxy's instructions."""
    return json.dumps({"tool_calls": [{"name": name, "arguments": arguments}]})


def fenced(name: str, **arguments: Any) -> str:
    """A call as small models write it, whatever is asked for."""
    return f"Voy a hacerlo.\n```json\n{json.dumps({'name': name, 'arguments': arguments}, indent=2)}\n```"


def opencode_script(folder: Path) -> Script:
    def say(system: str, history: str) -> str:
        if "You have these tools:" not in system:
            return "Un archivo"  # the title, which it asks for meanwhile
        if "Wrote file successfully" in history:
            return "Hecho: hola.txt"
        return fenced("write", filePath=str(folder / "hola.txt"), content="hola")

    return say


def continue_script(folder: Path) -> Script:
    def say(system: str, history: str) -> str:
        if "Successfully created file" in history:
            return "Hecho: hola.txt"
        return call("Write", filepath=str(folder / "hola.txt"), content="hola")

    return say


def mini_script(folder: Path) -> Script:
    def say(system: str, history: str) -> str:
        if MARK in history:
            return call("bash", command="echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT")
        return call("bash", command="printf hola > hola.txt && echo A$((40+2))B")

    return say


def aider_script(folder: Path) -> Script:
    return lambda system, history: "hola.txt\n```\nhola\n```\n"


def codex_script(folder: Path) -> Script:
    def say(system: str, history: str) -> str:
        if MARK in history:
            return "Hecho: hola.txt"
        return call("exec_command", cmd="printf hola > hola.txt && echo A$((40+2))B")

    return say


AGENTS = {
    "codex": (CODEX, codex_script),
    "opencode": (OPENCODE, opencode_script),
    "continue": (CONTINUE, continue_script),
    "mini-swe-agent": (MINI, mini_script),
    "aider": (AIDER, aider_script),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    work = tmp_path / "work"
    work.mkdir()
    return work


def need(agent: Agent) -> None:
    if not agent.installed:
        pytest.skip(f"{agent.program.name} is not installed (make test-agents installs it where that is possible)")


@pytest.mark.parametrize("name", AGENTS)
async def test_an_agent_makes_a_file_and_ends(name: str, folder: Path) -> None:
    agent, script = AGENTS[name]
    need(agent)
    async with scripted_sai(script(folder)) as sai, running_proxy(sai.url) as proxy:
        outcome = await agent.run("Crea el archivo hola.txt con el texto hola", folder, f"{proxy.url}/v1")
    assert (folder / "hola.txt").read_text().strip() == "hola", outcome.output
    assert outcome.exit_code == 0, outcome.output
    assert len(sai.asked) <= 6


@pytest.mark.parametrize("name", AGENTS)
async def test_a_key_that_sai_refuses_ends_the_agent_soon(name: str, folder: Path) -> None:
    """A final error reads so to each of them: no loop of repetitions."""
    agent, _ = AGENTS[name]
    need(agent)
    async with simulator() as sai, running_proxy(sai) as proxy:
        outcome = await agent.run("Crea el archivo hola.txt", folder, f"{proxy.url}/v1", key="an-invalid-key")
    assert "Incorrect API key provided" in " ".join(outcome.output.split())
    assert 1 <= len(sai.calls) <= 3


@pytest.mark.parametrize("name", ["opencode", "continue"])
async def test_a_call_that_was_cut_is_not_run_and_ends_the_agent_soon(name: str, folder: Path) -> None:
    agent, script = AGENTS[name]
    need(agent)
    whole = script(folder)

    def cut(system: str, history: str) -> str:
        text = whole(system, history)
        return text[: text.index("hola.txt") + 20] if "hola.txt" in text and "{" in text else text

    async with scripted_sai(cut) as sai, running_proxy(sai.url, MESSAGES_LANG="es") as proxy:
        outcome = await agent.run("Crea el archivo hola.txt", folder, f"{proxy.url}/v1")
    assert not (folder / "hola.txt").exists()
    assert "llamada a una herramienta" in " ".join(outcome.output.split())
    assert len(sai.asked) <= 4
