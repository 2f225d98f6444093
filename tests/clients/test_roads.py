"""The official client libraries through each of SAI's roads."""

import json
from typing import Any

import openai
import pytest

from tests.clients.background import Background
from tests.clients.contract import KEY
from tests.clients.node_script import NodeScript, needs_node
from tests.support import Proxy

ROADS = {"template": "template:t1", "chat": "chat:t1@both", "stream": "stream:m@both", "prompt": "prompt:gpt-4o"}
TEXT = 'uno "ñ" 漢字 😀 dos'
ANSWER = f"[[answer={json.dumps(TEXT)}]]"
TOOL: Any = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


@pytest.fixture(params=ROADS)
def road(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def by_road(world: Background, road: str) -> Proxy:
    return world.start_proxy(SAI_MODELS=f"sai-model={ROADS[road]}")


@pytest.fixture
def key(road: str) -> str:
    return "user-Cookies=mine" if road in ("chat", "stream") else KEY


def test_openai_python(by_road: Proxy, road: str, key: str) -> None:
    client = openai.OpenAI(base_url=by_road.url + "/v1", api_key=key, max_retries=0, _strict_response_validation=True)
    messages: Any = [{"role": "user", "content": ANSWER}]
    answer = client.chat.completions.create(model="sai-model", messages=messages)
    assert answer.choices[0].message.content == TEXT
    chunks = client.chat.completions.create(model="sai-model", messages=messages, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == TEXT
    assert client.responses.create(model="sai-model", input=ANSWER).output_text == TEXT
    with client.responses.stream(model="sai-model", input=ANSWER) as stream:
        assert stream.get_final_response().output_text == TEXT
    said = '{"tool_calls":[{"name":"weather","arguments":{"city":"Rome"}}]}'
    wanted = '[[call=weather]][[arguments={"city":"Rome"}]]' if road == "prompt" else f"[[answer={json.dumps(said)}]]"
    asked: Any = [{"role": "user", "content": wanted}]
    called = client.chat.completions.create(model="sai-model", messages=asked, tools=[TOOL])
    calls: Any = called.choices[0].message.tool_calls
    assert json.loads(calls[0].function.arguments) == {"city": "Rome"}
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="sai-model", messages=[{"role": "user", "content": "[[status=404]]"}])


@needs_node
@pytest.mark.parametrize("script", ["openai", "openai-responses"])
def test_openai_node(by_road: Proxy, key: str, script: str) -> None:
    class Node(NodeScript):
        pass

    Node.script = script
    client = Node(by_road.url + "/v1", key)
    assert client.ask(ANSWER).text == TEXT
    assert "".join(client.stream(ANSWER)) == TEXT
    assert client.failure("[[status=404]]", stream=False).name == "NotFoundError"
