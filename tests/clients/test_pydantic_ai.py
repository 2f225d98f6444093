"""pydantic-ai."""

import asyncio
from typing import Any

import pytest

from tests.clients.contract import KEY, ClientContract, Failure, Reply, failure_of

pytest.importorskip("instructor", reason="requirements/clients.lock is not installed")

import openai
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider


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


class TestPydanticAi(ClientContract):
    client = PydanticAi
    errors = dict.fromkeys((400, 401, 403, 404, 409, 429, 502, 504), "ModelHTTPError")
    broken = "APIError"
