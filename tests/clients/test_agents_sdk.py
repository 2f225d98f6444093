"""The OpenAI Agents SDK."""

import asyncio
from typing import Any

import pytest

from tests.clients.contract import KEY, OPENAI_ERRORS, ClientContract, Failure, Reply, failure_of

pytest.importorskip("instructor", reason="requirements/clients.lock is not installed")

import agents
import openai


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


class TestAgentsSdk(ClientContract):
    client = AgentsSdk
    errors = OPENAI_ERRORS
    broken = "APIError"
