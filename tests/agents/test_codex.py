"""Codex CLI, which speaks the Responses API alone: sessions, structured answers, failures, and how soon it gives up."""

import json
from pathlib import Path

import pytest

from sai_proxy.simulator import simulator
from tests.agents.agents import CODEX, Outcome, codex
from tests.agents.scripted_sai import scripted_sai
from tests.agents.test_agents import MARK, call
from tests.support import Proxy, free_port, running_proxy

pytestmark = pytest.mark.skipif(not CODEX.installed, reason="codex is not installed (make test-agents installs it)")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    work = tmp_path / "work"
    work.mkdir()
    return work


def told(outcome: Outcome) -> str:
    return " ".join(outcome.output.split())


async def test_it_resumes_a_session(folder: Path) -> None:
    def say(system: str, history: str) -> str:
        return "Te llamas Ana." if "Me llamo Ana" in history and "llamo?" in history else "Hola, Ana."

    async with scripted_sai(say) as sai, running_proxy(sai.url) as proxy:
        first = await CODEX.run("Me llamo Ana", folder, f"{proxy.url}/v1")
        assert "Hola, Ana." in first.output
        second = await codex("resume", "--last").run("Como me llamo?", folder, f"{proxy.url}/v1")
    assert second.exit_code == 0, second.output
    assert "Te llamas Ana." in second.output
    roles = [message["role"] for message in sai.asked[-1]["chatMessages"]]
    assert "assistant" in roles


async def test_it_gets_an_answer_of_the_form_that_is_demanded(folder: Path) -> None:
    """With all its tools beside: the first turn calls one."""
    properties = {"lines": {"type": "integer"}}
    schema = {"type": "object", "properties": properties, "required": ["lines"], "additionalProperties": False}
    (folder / "schema.json").write_text(json.dumps(schema))

    def say(system: str, history: str) -> str:
        if MARK not in history:
            return call("exec_command", cmd="echo A$((40+2))B")
        return 'Aqui esta:\n```json\n{"lines": 3}\n```'

    async with scripted_sai(say) as sai, running_proxy(sai.url) as proxy:
        agent = codex("--output-schema", "schema.json", "--output-last-message", "last.txt")
        outcome = await agent.run("Cuantas lineas?", folder, f"{proxy.url}/v1")
    assert outcome.exit_code == 0, outcome.output
    assert json.loads((folder / "last.txt").read_text()) == {"lines": 3}
    assert len(sai.asked) == 2


async def test_json_that_never_fits_ends_it_soon(folder: Path) -> None:
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "required": ["n"],
        "additionalProperties": False,
    }
    (folder / "schema.json").write_text(json.dumps(schema))
    async with scripted_sai(lambda system, history: '{"m": 1}') as sai, running_proxy(sai.url) as proxy:
        outcome = await codex("--output-schema", "schema.json").run("Cuantas?", folder, f"{proxy.url}/v1")
    assert outcome.exit_code != 0
    assert "not answer with the JSON that was asked for: " in told(outcome)
    assert len(sai.asked) == 1, "what has gone out as it came cannot be asked for again"


async def test_it_goes_on_after_a_tool_that_fails(folder: Path) -> None:
    def say(system: str, history: str) -> str:
        if MARK in history:
            return "Ahora si."
        if "exited with code 7" in history:
            return call("exec_command", cmd="echo A$((40+2))B")
        return call("exec_command", cmd="exit 7")

    async with scripted_sai(say) as sai, running_proxy(sai.url) as proxy:
        outcome = await CODEX.run("Prueba", folder, f"{proxy.url}/v1")
    assert outcome.exit_code == 0, outcome.output
    assert "Ahora si." in outcome.output
    assert len(sai.asked) == 3


async def test_it_goes_on_after_a_tool_that_there_is_not(folder: Path) -> None:
    def say(system: str, history: str) -> str:
        return "Sin ella." if "plain text, without JSON" in history else call("fly", to="Quito")

    async with scripted_sai(say) as sai, running_proxy(sai.url) as proxy:
        outcome = await CODEX.run("Vuela", folder, f"{proxy.url}/v1")
    assert outcome.exit_code == 0, outcome.output
    assert "Sin ella." in outcome.output


async def test_a_call_inside_a_namespace_is_run(folder: Path) -> None:
    """Codex knows `spawn_agent` by two names, and answers `unsupported call` to any that is not taken apart."""

    def say(system: str, history: str) -> str:
        if "unsupported call" in history:
            return "No se pudo."
        if "multi_agent_v1.wait_agent (call_" in history:
            return "Hecho por otro."
        return call("multi_agent_v1.wait_agent", targets=["nobody"], timeout_ms=10000)

    async with scripted_sai(say) as sai, running_proxy(sai.url) as proxy:
        outcome = await CODEX.run("Espera al otro", folder, f"{proxy.url}/v1")
    assert outcome.exit_code == 0, outcome.output
    assert "Hecho por otro." in outcome.output


async def test_its_context_is_the_servers(folder: Path) -> None:
    """From the catalogue: no warning of unknown metadata, and the instructions are ours."""
    async with (
        scripted_sai(lambda system, history: "Hola") as sai,
        running_proxy(sai.url, CONTEXT_LIMIT_TOKENS="64000") as proxy,
    ):
        outcome = await CODEX.run("Hola", folder, f"{proxy.url}/v1")
    assert "Model metadata" not in outcome.output
    assert sai.asked[0]["inputs"]["system"].startswith("You are a coding agent.")


async def test_it_shortens_its_conversation_before_it_is_too_long(folder: Path) -> None:
    """By the server's window, not by the one that it believes in, a hundred thousand tokens further on."""
    summary = "RESUMEN-7"

    def say(system: str, history: str) -> str:
        if summary in history:
            return "Listo."
        if "You have these tools:" not in system:
            return summary
        return call("exec_command", cmd="head -c 7000 /dev/zero | tr '\\0' x")

    async with (
        scripted_sai(say, usage=False) as sai,
        running_proxy(sai.url, CONTEXT_LIMIT_TOKENS="24000") as proxy,
    ):
        outcome = await CODEX.run("Llena la conversacion", folder, f"{proxy.url}/v1")
        refusals = await requests_of(proxy, status="400")
    assert outcome.exit_code == 0, outcome.output[-2000:]
    assert "Listo." in outcome.output
    assert refusals == 0, "none was too long"
    assert len(sai.asked) > 5


async def test_its_patience_lasts_while_sai_writes(folder: Path) -> None:
    """Between the events of a slow answer, that between two calls among them, and with no repetition."""
    calls = [call("exec_command", cmd=f"echo A$((40+{n}))B") for n in (2, 3)]
    said = json.dumps("Voy.\n" + "\n".join(calls))
    impatient = codex("-c", "model_providers.sai.stream_idle_timeout_ms=1500")
    async with simulator() as sai, running_proxy(sai, HEARTBEAT_SECONDS="0.3") as proxy:
        outcome = await impatient.run(f"[[answer={said}]][[pieces=4]][[delay=2.5]]", folder, f"{proxy.url}/v1")
    assert outcome.exit_code == 0, outcome.output
    assert "A42B" in outcome.output
    assert "A43B" in outcome.output
    assert len(sai.calls) == 2, "the answer, and the one to what its calls gave"


async def requests_of(proxy: Proxy, **labels: str) -> int:
    """Requests for responses that the proxy has counted, by labels such as their status."""
    wanted = {"route": "/v1/responses", **labels}
    metrics = (await proxy.get("/metrics")).text
    counted = (line for line in metrics.splitlines() if line.startswith("sai_proxy_requests_total{"))
    return sum(
        int(float(line.rsplit(" ", 1)[1]))
        for line in counted
        if all(f'{name}="{value}"' in line for name, value in wanted.items())
    )


async def fails(folder: Path, proxy: Proxy, key: str = "raspberry", prompt: str = "Hola") -> Outcome:
    outcome = await CODEX.run(prompt, folder, f"{proxy.url}/v1", key=key)
    assert outcome.exit_code != 0
    return outcome


async def test_a_key_that_sai_refuses_ends_it_soon(folder: Path) -> None:
    async with simulator() as sai, running_proxy(sai) as proxy:
        assert "Incorrect API key provided" in told(await fails(folder, proxy, key="an-invalid-key"))
    assert len(sai.calls) == 2, "its one repetition of a stream"


async def test_a_limit_ends_it_soon(folder: Path) -> None:
    async with simulator() as sai, running_proxy(sai, SAI_COOKIE="") as proxy:
        assert "429" in told(await fails(folder, proxy, key="a-limited-key"))
        assert await requests_of(proxy) == 2
    assert len(sai.calls) == 1, "the credential rests, and SAI is not asked again"


async def test_a_dead_sai_ends_it_soon(folder: Path) -> None:
    async with running_proxy(f"http://127.0.0.1:{free_port()}") as proxy:
        assert "Could not connect to SAI" in told(await fails(folder, proxy))
        assert await requests_of(proxy) == 2, "its one repetition of a stream"


async def test_a_sai_that_fails_ends_it_soon(folder: Path) -> None:
    async with simulator() as sai, running_proxy(sai) as proxy:
        assert "internal error" in told(await fails(folder, proxy, prompt="[[status=500]]"))
    assert len(sai.calls) == 2


async def test_a_sai_that_breaks_off_ends_it_soon(folder: Path) -> None:
    async with simulator() as sai, running_proxy(sai) as proxy:
        assert "cut off" in told(await fails(folder, proxy, prompt="[[chars=99]][[cut=chunked]]"))
    assert len(sai.calls) == 2
