"""LangChain."""

import pytest

from tests.clients.contract import KEY, ClientContract, Failure, Reply, failure_of

pytest.importorskip("instructor", reason="requirements/clients.lock is not installed")

from langchain_openai import ChatOpenAI


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
