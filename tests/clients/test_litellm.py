"""LiteLLM, as a library."""

from typing import Any

import pytest

from tests.clients.contract import KEY, OPENAI_ERRORS, ClientContract, Failure, Reply, failure_of

pytest.importorskip("instructor", reason="requirements/clients.lock is not installed")

import litellm


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
