"""Python frameworks over openai-python: LangChain, LiteLLM, pydantic-ai, the Agents SDK, Instructor.

They come with requirements/clients.lock (`make test-clients`).
"""

import asyncio
from typing import Any

import pytest

from tests.clients.contract import KEY, OPENAI_ERRORS, ClientContract, Failure, Reply, failure_of
from tests.support import Proxy

instructor = pytest.importorskip("instructor", reason="requirements/clients.lock is not installed")

import agents  # noqa: E402
import litellm  # noqa: E402
import openai  # noqa: E402
from langchain_openai import ChatOpenAI  # noqa: E402
from pydantic import BaseModel  # noqa: E402
from pydantic_ai import Agent  # noqa: E402
from pydantic_ai.models.openai import OpenAIChatModel  # noqa: E402
from pydantic_ai.providers.openai import OpenAIProvider  # noqa: E402


class LangChain:
    def __init__(self, base_url: str) -> None:
        self._chat = ChatOpenAI(base_url=base_url, api_key=KEY, model="sai-model", max_retries=0, stream_usage=True)

    def ask(self, text: str) -> Reply:
        message = self._chat.invoke(text)
        usage = message.usage_metadata
        return Reply(str(message.content), (usage["input_tokens"], usage["output_tokens"]))

    def stream(self, text: str) -> list[str]:
        return [str(chunk.content) for chunk in self._chat.stream(text) if chunk.content]

    def leave(self, text: str) -> None:
        stream = self._chat.stream(text)
        while not next(stream).content:
            pass
        stream.close()

    def failure(self, text: str, *, stream: bool) -> Failure:
        return failure_of(lambda: self.stream(text) if stream else self.ask(text))

    def models(self) -> list[str]:
        return [model.id for model in self._chat.root_client.models.list()]


class LiteLlm:
    def __init__(self, base_url: str) -> None:
        self._options: dict[str, Any] = {
            "model": "openai/sai-model",
            "base_url": base_url,
            "api_key": KEY,
            "max_retries": 0,
        }

    def _complete(self, text: str, **options: Any) -> Any:
        return litellm.completion(messages=[{"role": "user", "content": text}], **self._options, **options)

    def ask(self, text: str) -> Reply:
        answer = self._complete(text)
        return Reply(answer.choices[0].message.content, (answer.usage.prompt_tokens, answer.usage.completion_tokens))

    def stream(self, text: str) -> list[str]:
        chunks = self._complete(text, stream=True)
        return [c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content]

    def leave(self, text: str) -> None:
        chunks = self._complete(text, stream=True)
        while not next(chunks).choices[0].delta.content:
            pass
        chunks.completion_stream.close()

    def failure(self, text: str, *, stream: bool) -> Failure:
        return failure_of(lambda: self.stream(text) if stream else self.ask(text))

    def models(self) -> None:
        """It lists what it knows itself."""


class PydanticAi:
    def __init__(self, base_url: str) -> None:
        self._base_url = base_url

    def _agent(self) -> tuple[Any, Any]:
        client = openai.AsyncOpenAI(base_url=self._base_url, api_key=KEY, max_retries=0)
        return Agent(OpenAIChatModel("sai-model", provider=OpenAIProvider(openai_client=client))), client

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


class AgentsSdk:
    def __init__(self, base_url: str) -> None:
        agents.set_tracing_disabled(True)
        self._base_url = base_url

    def _agent(self) -> tuple[Any, Any]:
        client = openai.AsyncOpenAI(base_url=self._base_url, api_key=KEY, max_retries=0)
        model = agents.OpenAIChatCompletionsModel(model="sai-model", openai_client=client)
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


class TestLangChain(ClientContract):
    """Its exceptions are openai-python's with a prefix, but for those it has no own name for."""

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


class TestLiteLlm(ClientContract):
    """It maps by words of the body as well as by status."""

    client = LiteLlm
    errors = {
        **OPENAI_ERRORS,
        403: "APIError",
        409: "BadRequestError",
        502: "BadGatewayError",
        504: "Timeout",
    }
    broken = "MidStreamFallbackError"


class TestPydanticAi(ClientContract):
    client = PydanticAi
    errors = dict.fromkeys((400, 401, 403, 404, 409, 429, 502, 504), "ModelHTTPError")
    broken = "APIError"


class TestAgentsSdk(ClientContract):
    client = AgentsSdk
    errors = OPENAI_ERRORS
    broken = "APIError"


class City(BaseModel):
    name: str
    people: int


def instructed(base_url: str) -> Any:
    client = openai.OpenAI(base_url=base_url, api_key=KEY, max_retries=0)
    return instructor.from_openai(client, mode=instructor.Mode.MD_JSON)


def test_instructor_gets_its_object_from_a_plain_answer(served: Proxy) -> None:
    """In the mode that asks for JSON in the prompt alone: structured output has an issue of its own."""
    city = instructed(served.url + "/v1").chat.completions.create(
        model="sai-model",
        response_model=City,
        max_retries=1,
        messages=[
            {"role": "user", "content": '[[answer="```json\\n{\\"name\\": \\"Quito\\", \\"people\\": 2}\\n```"]]'}
        ],
    )
    assert (city.name, city.people) == ("Quito", 2)


def test_instructor_passes_errors_on(served: Proxy) -> None:
    with pytest.raises(Exception, match=r"internal error") as caught:
        instructed(served.url + "/v1").chat.completions.create(
            model="sai-model",
            response_model=City,
            max_retries=1,
            messages=[{"role": "user", "content": "[[status=500]]"}],
        )
    assert "502" in str(caught.value)
