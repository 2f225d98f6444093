"""Requests to `POST /v1/responses`, and responses as a store has kept them."""

import json
from collections.abc import Mapping
from typing import Any

from msgspec import Raw

from sai_proxy.conversation.chat import ChatRequest, Route
from sai_proxy.conversation.events import Completed
from sai_proxy.openai_api.kept_responses import NOTHING, Kept, Recalled
from sai_proxy.openai_api.responses_endpoint import ResponsesEndpoint
from sai_proxy.openai_api.usage import usage_body

DIGITS = "ab" * 24
FUNCTION = {"type": "function", "name": "f", "parameters": {"type": "object"}}
PATCH = {"type": "custom", "name": "patch", "format": {"type": "grammar", "syntax": "lark", "definition": "start: X"}}
CALL = {
    "type": "function_call",
    "id": "fc_0",
    "call_id": "call_0",
    "name": "f",
    "arguments": "{}",
    "status": "completed",
}
MODELS = {"sai-model": Route("t")}


def read(input: Any, recalled: Recalled = NOTHING, **fields: Any) -> ChatRequest:
    """What a request with this input asks for."""
    endpoint = ResponsesEndpoint(MODELS, lambda: (DIGITS, 1), keeps=True)
    return endpoint.parse(json.dumps({"model": "sai-model", "input": input, **fields}).encode(), recalled).chat_request


def messages(input: Any, recalled: Recalled = NOTHING, **fields: Any) -> list[tuple[str, str]]:
    """Role and text of each message that SAI is to get."""
    return [(message.role, message.text) for message in read(input, recalled, **fields).conversations[0]]


def user(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(parts)}


def text(said: str) -> dict[str, str]:
    return {"type": "input_text", "text": said}


def keeping(body: Mapping[str, Any], recalled: Recalled = NOTHING, text: str = "said", digits: str = DIGITS) -> Kept:
    """What is kept of a request, whose answer is `text`."""
    endpoint = ResponsesEndpoint(MODELS, lambda: (digits, 1), keeps=True)
    answer = endpoint.parse(json.dumps({"model": "sai-model", **body}).encode(), recalled).answer
    answer.whole([Completed(text, "stop")], usage_body(1, 1))
    kept = answer.kept()
    assert kept is not None
    return kept


def kept_of(digits: str, items: list[Any], text: str, *ancestors: str) -> Kept:
    """An answer `text` to these items."""
    kept = keeping({"input": items}, text=text, digits=digits)
    return Kept(kept.id, kept.response, Raw(json.dumps(items).encode()), ancestors)
