"""What tells one text endpoint from another: how a body becomes a question, and an answer bytes."""

import secrets
import time
from collections.abc import Mapping
from typing import NamedTuple, Protocol

from sai_proxy.chat import ChatRequest, Route
from sai_proxy.openai_api.chat_answer import AnswerFormat, ChatAnswer
from sai_proxy.openai_api.chat_request import ChatCompletionRequest, decode_chat_request, read_chat_request


class ParsedBody(NamedTuple):
    """What a body says: what is asked, how to answer it, and the user's own SAI key if it holds one."""

    chat_request: ChatRequest
    answer: AnswerFormat
    user_key: str | None


class Endpoint(Protocol):
    def parse(self, body: bytes) -> ParsedBody:
        """Raises ProxyError, naming what is wrong with the body."""
        ...

    def plain_answer(self) -> AnswerFormat:
        """For a body that could not be read, should its failure have to be told as a message."""
        ...


class ChatCompletions:
    """`POST /v1/chat/completions`."""

    def __init__(self, models: Mapping[str, Route]) -> None:
        self._models = models

    def parse(self, body: bytes) -> ParsedBody:
        wire = decode_chat_request(body)
        chat_request = read_chat_request(wire, self._models)
        include_usage = bool(wire.stream_options and wire.stream_options.include_usage)
        return ParsedBody(chat_request, self._answer(wire.model, include_usage), _user_key(wire))

    def plain_answer(self) -> ChatAnswer:
        return self._answer(next(iter(self._models)), include_usage=False)

    def _answer(self, model: str, include_usage: bool) -> ChatAnswer:
        return ChatAnswer(f"chatcmpl-{secrets.token_hex(12)}", int(time.time()), model, include_usage=include_usage)


def _user_key(wire: ChatCompletionRequest) -> str | None:
    parameters = wire.litellm_params
    return parameters.metadata.user_api_key if parameters and parameters.metadata else None
