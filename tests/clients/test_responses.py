"""Every client that speaks the Responses API, by its own default where it has one."""

import asyncio
import json
from typing import Any

import openai
import pytest

from tests.clients.background import Background
from tests.clients.contract import KEY, OPENAI_ERRORS, ClientContract, Failure, Reply, failure_of
from tests.clients.node_script import NodeScript, needs_node
from tests.support import Proxy

pytest.importorskip("instructor", reason="requirements/clients.lock is not installed")

import agents
import litellm
from langchain_openai import ChatOpenAI
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider


class OpenAiPython:
    """With its strict validation of answers on."""

    def __init__(self, base_url: str) -> None:
        self._client = openai.OpenAI(base_url=base_url, api_key=KEY, max_retries=0, _strict_response_validation=True)

    def ask(self, text: str) -> Reply:
        answer = self._client.responses.create(model="sai-model", input=text)
        assert answer.usage is not None
        return Reply(answer.output_text, (answer.usage.input_tokens, answer.usage.output_tokens))

    def stream(self, text: str) -> list[str]:
        with self._client.responses.create(model="sai-model", input=text, stream=True) as events:
            return [event.delta for event in events if event.type == "response.output_text.delta"]

    def leave(self, text: str) -> None:
        with self._client.responses.create(model="sai-model", input=text, stream=True) as events:
            for event in events:
                if event.type == "response.output_text.delta":
                    break

    def failure(self, text: str, *, stream: bool) -> Failure:
        return failure_of(lambda: self.stream(text) if stream else self.ask(text))

    def models(self) -> list[str]:
        return [model.id for model in self._client.models.list()]


class TestOpenAiPython(ClientContract):
    client = OpenAiPython
    errors = OPENAI_ERRORS
    broken = "APIError"

    def test_its_accumulator_and_a_conversation(self, served: Proxy) -> None:
        client = openai.OpenAI(base_url=served.url + "/v1", api_key=KEY, max_retries=0)
        with client.responses.stream(model="sai-model", input="[[answer=one]][[split=1]]") as stream:
            first = stream.get_final_response()
        assert first.output_text == "one"
        second = client.responses.create(model="sai-model", input="two", previous_response_id=first.id)
        assert client.responses.retrieve(second.id).output_text == second.output_text
        (item,) = client.responses.input_items.list(second.id).data
        assert item.type == "message"
        client.responses.delete(second.id)
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(second.id)


class OpenAiNode(NodeScript):
    script = "openai-responses"


@needs_node
class TestOpenAiNode(ClientContract):
    client = OpenAiNode
    errors = OPENAI_ERRORS
    broken = "APIError"

    @pytest.mark.parametrize("heartbeat_s", ["10", "0.02"])
    def test_its_accumulator(self, world: Background, heartbeat_s: str) -> None:
        """With heartbeats in between, too, which are events."""
        proxy = world.start_proxy(HEARTBEAT_SECONDS=heartbeat_s)
        client = OpenAiNode(proxy.url + "/v1")
        said = client._run("accumulate", "[[answer=one two]][[split=3]][[silence=0.1]][[delay=0.1]]")
        assert said == {"text": "one two", "calls": []}
        calls = [json.dumps({"name": "get_weather", "arguments": {"city": city}}) for city in ("Rome", "Quito")]
        answer = json.dumps("\n".join(calls))  # the first goes out before the second is there
        said = client._run("accumulate", f"[[answer={answer}]][[pieces=5]][[delay=0.1]]")
        assert [json.loads(call["arguments"])["city"] for call in said["calls"]] == ["Rome", "Quito"]


class AiSdk(NodeScript):
    script = "ai-sdk-responses"


@needs_node
class TestAiSdk(ClientContract):
    client = AiSdk
    errors = dict.fromkeys((400, 401, 403, 404, 409, 429, 502, 504), "AI_APICallError")
    broken = "none"

    def test_a_second_turn_refers_to_the_first_answer(self, served: Proxy, world: Background) -> None:
        said = AiSdk(served.url + "/v1")._run("turns", "[[answer=A42B]]")
        assert "item_reference" in said["sent"]
        assert "A42B" in [message["content"] for message in world.sai.calls[-1].body["chatMessages"]]


class AgentsSdk:
    """With its default model class."""

    def __init__(self, base_url: str) -> None:
        agents.set_tracing_disabled(True)
        self._base_url = base_url

    def _agent(self) -> tuple[Any, Any]:
        client = openai.AsyncOpenAI(base_url=self._base_url, api_key=KEY, max_retries=0)
        model = agents.OpenAIResponsesModel(model="sai-model", openai_client=client)
        return agents.Agent(name="test", model=model), client

    def ask(self, text: str) -> Reply:
        async def ask() -> Any:
            agent, client = self._agent()
            async with client:
                return await agents.Runner.run(agent, text)

        result = asyncio.run(ask())
        usage = result.context_wrapper.usage
        return Reply(result.final_output, (usage.input_tokens, usage.output_tokens))

    async def _pieces(self, text: str, *, leave: bool) -> list[str]:
        agent, client = self._agent()
        pieces = []
        async with client:
            run = agents.Runner.run_streamed(agent, text)
            async for event in run.stream_events():
                if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
                    pieces.append(event.data.delta)
                    if leave:
                        run.cancel()
        return pieces

    def stream(self, text: str) -> list[str]:
        return asyncio.run(self._pieces(text, leave=False))

    def leave(self, text: str) -> None:
        asyncio.run(self._pieces(text, leave=True))

    def failure(self, text: str, *, stream: bool) -> Failure:
        return failure_of(lambda: self.stream(text) if stream else self.ask(text))

    def models(self) -> None:
        """It lists none."""


class TestAgentsSdk(ClientContract):
    client = AgentsSdk
    errors = OPENAI_ERRORS
    broken = "APIError"


class LangChain:
    def __init__(self, base_url: str) -> None:
        self._chat = ChatOpenAI(
            base_url=base_url, api_key=KEY, model="sai-model", max_retries=0, use_responses_api=True
        )

    def ask(self, text: str) -> Reply:
        message = self._chat.invoke(text)
        usage = message.usage_metadata
        return Reply(message.text, (usage["input_tokens"], usage["output_tokens"]))

    def stream(self, text: str) -> list[str]:
        return [chunk.text for chunk in self._chat.stream(text) if chunk.text]

    def leave(self, text: str) -> None:
        stream = self._chat.stream(text)
        while not next(stream).text:
            pass
        stream.close()

    def failure(self, text: str, *, stream: bool) -> Failure:
        return failure_of(lambda: self.stream(text) if stream else self.ask(text))

    def models(self) -> None:
        """As with chat."""


class TestLangChain(ClientContract):
    client = LangChain
    errors = {
        400: "OpenAIInvalidRequestError",
        401: "OpenAIAuthenticationError",
        403: "OpenAIPermissionDeniedError",
        404: "OpenAIModelNotFoundError",
        409: "ConflictError",
        429: "OpenAIRateLimitError",
        502: "OpenAIAPIError",
        504: "OpenAIAPIError",
    }
    broken = "APIError"


class PydanticAi:
    def __init__(self, base_url: str) -> None:
        self._base_url = base_url

    def _agent(self) -> tuple[Any, Any]:
        client = openai.AsyncOpenAI(base_url=self._base_url, api_key=KEY, max_retries=0)
        return Agent(OpenAIResponsesModel("sai-model", provider=OpenAIProvider(openai_client=client))), client

    async def _pieces(self, text: str, *, leave: bool) -> list[str]:
        agent, client = self._agent()
        pieces = []
        async with client, agent.run_stream(text) as result:
            async for piece in result.stream_text(delta=True, debounce_by=None):
                pieces.append(piece)
                if leave:
                    break
        return pieces

    def ask(self, text: str) -> Reply:
        async def ask() -> Any:
            agent, client = self._agent()
            async with client:
                return await agent.run(text)

        result = asyncio.run(ask())
        usage = result.usage() if callable(result.usage) else result.usage
        return Reply(result.output, (usage.input_tokens, usage.output_tokens))

    def stream(self, text: str) -> list[str]:
        return asyncio.run(self._pieces(text, leave=False))

    def leave(self, text: str) -> None:
        asyncio.run(self._pieces(text, leave=True))

    def failure(self, text: str, *, stream: bool) -> Failure:
        return failure_of(lambda: self.stream(text) if stream else self.ask(text))

    def models(self) -> None:
        """It lists none."""


class TestPydanticAi(ClientContract):
    client = PydanticAi
    errors = dict.fromkeys((400, 401, 403, 404, 409, 429, 502, 504), "ModelHTTPError")
    broken = "APIError"


def test_litellm_asks_plainly_whatever_is_wanted(served: Proxy) -> None:
    """Of a model whose name it does not know it fakes the stream."""
    options = {"model": "openai/sai-model", "api_base": served.url + "/v1", "api_key": KEY, "max_retries": 0}
    answer: Any = litellm.responses(input="[[answer=A42B]]", **options)
    assert answer.output[0].content[0].text == "A42B"
    events: Any = litellm.responses(input="[[answer=A42B]]", stream=True, **options)
    assert "A42B" in [getattr(event, "text", None) or getattr(event, "delta", None) for event in events]


def test_litellm_hands_out_calls_and_takes_their_outputs(served: Proxy) -> None:
    options = {"model": "openai/sai-model", "api_base": served.url + "/v1", "api_key": KEY, "max_retries": 0}
    tools: Any = [{"type": "function", "name": "get_weather", "parameters": {"type": "object"}}]
    said = json.dumps('{"tool_calls":[{"name":"get_weather","arguments":{"city":"Rome"}}]}')
    made: Any = litellm.responses(input=f"[[answer={said}]]", tools=tools, **options)
    (call,) = made.output
    assert (call.type, call.name, json.loads(call.arguments)) == ("function_call", "get_weather", {"city": "Rome"})
    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "18 degrees"}
    items: Any = [{"role": "user", "content": "Weather?"}, call.model_dump(exclude_none=True), result]
    answer: Any = litellm.responses(input=items, tools=tools, **options)
    assert "18 degrees" in answer.output[0].content[0].text


@pytest.mark.parametrize("stream", [False, True])
def test_litellm_raises_what_openai_would(served: Proxy, stream: bool) -> None:
    options = {"model": "openai/sai-model", "api_base": served.url + "/v1", "max_retries": 0, "stream": stream}
    with pytest.raises(litellm.AuthenticationError):
        litellm.responses(input="x", api_key="an-invalid-key", **options)
    with pytest.raises(litellm.RateLimitError):
        litellm.responses(input="[[status=429]]", api_key=KEY, **options)
    with pytest.raises(litellm.BadRequestError):
        litellm.responses(input=[{"type": "telepathy"}], api_key=KEY, **options)
