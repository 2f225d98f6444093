"""Client libraries that call tools and ask for structured output, in several steps; the model is played by a script."""

import asyncio
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.agents.scripted_sai import ScriptedSai, scripted_sai
from tests.clients.background import Background, background
from tests.clients.contract import KEY
from tests.clients.node_script import needs_node
from tests.clients.validated import every_answer_checked
from tests.support import running_proxy

pytest.importorskip("instructor", reason="requirements/clients.lock is not installed")

import agents
import instructor
import openai
import pydantic_ai
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI
from pydantic import BaseModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

QUESTION = "What is the weather in Rome?"
ANSWER = "It is sunny in Rome."
WEATHER = "sunny, 21 degrees"


class Trip(BaseModel):
    city: str
    days: int


def play(system: str, history: str) -> str:
    """A model that calls a tool named for what it gives, and answers when it has the result."""
    if "- transfer_to_meteorologist(" in system and "Result of transfer" not in history:
        return json.dumps({"tool_calls": [{"name": "transfer_to_meteorologist", "arguments": {}}]})
    if "Result of get_weather" in history:
        return ANSWER if WEATHER in history else "What was that?"
    if "- get_weather(" in system:
        return 'I look.\n```json\n{"name": "get_weather", "arguments": {"city": "Rome"}}\n```'
    for tool in ("final_result", "Trip"):
        if f"- {tool}(" in system:
            return json.dumps({"tool_calls": [{"name": tool, "arguments": {"city": "Rome", "days": 2}}]})
    return 'Here it is:\n```json\n{"city": "Rome", "days": 2}\n```'


@pytest.fixture(scope="module")
def world() -> Iterator[Background]:
    with every_answer_checked() as counter, background() as running:
        yield running
    assert counter[0], "no answer was checked"


@pytest.fixture(scope="module")
def sai(world: Background) -> ScriptedSai:
    return world.enter(scripted_sai(play))


@pytest.fixture(scope="module")
def base_url(world: Background, sai: ScriptedSai) -> str:
    return world.enter(running_proxy(sai.url)).url + "/v1"


def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"{WEATHER} in {city}"


def test_openai_python_parses_structured_output(base_url: str) -> None:
    client = openai.OpenAI(base_url=base_url, api_key=KEY, max_retries=0)
    messages: Any = [{"role": "user", "content": "Plan a trip."}]
    parsed = client.chat.completions.parse(model="sai-model", messages=messages, response_format=Trip)
    assert parsed.choices[0].message.parsed == Trip(city="Rome", days=2)
    with client.chat.completions.stream(model="sai-model", messages=messages, response_format=Trip) as stream:
        assert stream.get_final_completion().choices[0].message.parsed == Trip(city="Rome", days=2)


def test_openai_python_parses_strict_tools(base_url: str) -> None:
    client = openai.OpenAI(base_url=base_url, api_key=KEY, max_retries=0)
    tool: Any = openai.pydantic_function_tool(Trip)
    messages: Any = [{"role": "user", "content": "Plan a trip."}]
    parsed = client.chat.completions.parse(model="sai-model", messages=messages, tools=[tool])
    calls: Any = parsed.choices[0].message.tool_calls
    (call,) = calls
    assert call.function.parsed_arguments == Trip(city="Rome", days=2)


def test_openai_python_parses_what_responses_give(base_url: str) -> None:
    client = openai.OpenAI(base_url=base_url, api_key=KEY, max_retries=0, _strict_response_validation=True)
    parsed = client.responses.parse(model="sai-model", input="Plan a trip.", text_format=Trip)
    assert parsed.output_parsed == Trip(city="Rome", days=2)
    with client.responses.stream(model="sai-model", input="Plan a trip.", text_format=Trip) as stream:
        assert stream.get_final_response().output_parsed == Trip(city="Rome", days=2)
    tool: Any = openai.pydantic_function_tool(Trip)
    flat: Any = {"type": "function", **tool["function"]}
    called: Any = client.responses.parse(model="sai-model", input="Plan a trip.", tools=[flat])
    (call,) = called.output
    assert Trip.model_validate_json(call.arguments) == Trip(city="Rome", days=2)


@pytest.mark.parametrize("responses", [False, True])
@pytest.mark.parametrize("stream", [False, True])
def test_langchain_binds_tools(base_url: str, stream: bool, responses: bool) -> None:
    chat = ChatOpenAI(base_url=base_url, api_key=KEY, model="sai-model", max_retries=0, use_responses_api=responses)
    bound = chat.bind_tools([get_weather])
    question = HumanMessage(QUESTION)

    def ask(messages: list[Any]) -> Any:
        if not stream:
            return bound.invoke(messages)
        pieces = list(bound.stream(messages))
        whole = pieces[0]
        for piece in pieces[1:]:
            whole += piece
        return whole

    first = ask([question])
    (call,) = first.tool_calls
    assert (call["name"], call["args"]) == ("get_weather", {"city": "Rome"})
    result = ToolMessage(get_weather(**call["args"]), tool_call_id=call["id"])
    assert ask([question, first, result]).text == ANSWER


@pytest.mark.parametrize("responses", [False, True])
def test_langchain_gives_structured_output(base_url: str, responses: bool) -> None:
    chat = ChatOpenAI(base_url=base_url, api_key=KEY, model="sai-model", max_retries=0, use_responses_api=responses)
    for method in ("json_schema", "function_calling"):
        assert chat.with_structured_output(Trip, method=method).invoke("Plan a trip.") == Trip(city="Rome", days=2)


BOTH = pytest.mark.parametrize("api", ["OpenAIChatCompletionsModel", "OpenAIResponsesModel"])
"""The second is the Agents SDK's default."""


def agents_model(base_url: str, api: str) -> Any:
    agents.set_tracing_disabled(True)
    client = openai.AsyncOpenAI(base_url=base_url, api_key=KEY, max_retries=0)
    return getattr(agents, api)(model="sai-model", openai_client=client)


@BOTH
@pytest.mark.parametrize("stream", [False, True])
def test_the_agents_sdk_runs_tools(base_url: str, stream: bool, api: str) -> None:
    async def run() -> str:
        agent = agents.Agent(name="a", model=agents_model(base_url, api), tools=[agents.function_tool(get_weather)])
        if not stream:
            return str((await agents.Runner.run(agent, QUESTION)).final_output)
        running = agents.Runner.run_streamed(agent, QUESTION)
        async for _ in running.stream_events():
            pass
        return str(running.final_output)

    assert asyncio.run(run()) == ANSWER


@BOTH
def test_the_agents_sdk_gives_an_output_type(base_url: str, api: str) -> None:
    async def run() -> Any:
        agent = agents.Agent(name="a", model=agents_model(base_url, api), output_type=Trip)
        return (await agents.Runner.run(agent, "Plan a trip.")).final_output

    assert asyncio.run(run()) == Trip(city="Rome", days=2)


@BOTH
def test_the_agents_sdk_hands_off(base_url: str, api: str) -> None:
    async def run() -> Any:
        model = agents_model(base_url, api)
        expert = agents.Agent(name="meteorologist", model=model, tools=[agents.function_tool(get_weather)])
        result = await agents.Runner.run(agents.Agent(name="a", model=model, handoffs=[expert]), QUESTION)
        return result.last_agent.name, result.final_output

    assert asyncio.run(run()) == ("meteorologist", ANSWER)


@pytest.mark.parametrize("kind", [OpenAIChatModel, OpenAIResponsesModel])
def test_pydantic_ai_runs_tools_and_gives_an_output_type(base_url: str, kind: Any) -> None:
    model = kind("sai-model", provider=OpenAIProvider(base_url=base_url, api_key=KEY))
    agent = pydantic_ai.Agent(model, tools=[get_weather])
    assert agent.run_sync(QUESTION).output == ANSWER
    assert pydantic_ai.Agent(model, output_type=Trip).run_sync("Plan a trip.").output == Trip(city="Rome", days=2)


@pytest.mark.parametrize("mode", ["TOOLS", "JSON", "JSON_SCHEMA"])
def test_instructor_in_its_modes(base_url: str, mode: str) -> None:
    plain = openai.OpenAI(base_url=base_url, api_key=KEY, max_retries=0)
    client = instructor.from_openai(plain, mode=instructor.Mode[mode])
    messages: Any = [{"role": "user", "content": "Plan a trip."}]
    trip = client.chat.completions.create(model="sai-model", messages=messages, response_model=Trip, max_retries=1)
    assert trip.model_dump() == {"city": "Rome", "days": 2}


@needs_node
@pytest.mark.parametrize("action", ["steps", "stream-steps", "object"])
def test_the_ai_sdk_runs_tools_by_its_default(base_url: str, action: str) -> None:
    run = subprocess.run(
        ["node", "ai-sdk-responses.mjs", action, base_url, KEY, QUESTION],
        cwd=Path(__file__).parent / "node",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    expected = {"city": "Rome", "days": 2} if action == "object" else {"text": ANSWER, "steps": 2}
    assert json.loads(run.stdout) == expected, run.stderr


@needs_node
@pytest.mark.parametrize("action", ["ai-steps", "ai-stream", "ai-object", "openai-run-tools"])
def test_node_clients_run_tools(base_url: str, action: str) -> None:
    run = subprocess.run(
        ["node", "tools.mjs", action, base_url, KEY, QUESTION],
        cwd=Path(__file__).parent / "node",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    expected = {"city": "Rome", "days": 2} if action == "ai-object" else ANSWER
    assert json.loads(run.stdout) == expected
