"""Responses as a store has kept them."""

import json
from collections.abc import Mapping
from typing import Any

from msgspec import Raw

from sai_proxy.conversation.chat import Route
from sai_proxy.conversation.events import Completed
from sai_proxy.openai_api.kept_responses import NOTHING, Kept, Recalled
from sai_proxy.openai_api.responses_endpoint import ResponsesEndpoint
from sai_proxy.openai_api.usage import usage_body

DIGITS = "ab" * 24


def keeping(body: Mapping[str, Any], recalled: Recalled = NOTHING, text: str = "said", digits: str = DIGITS) -> Kept:
    """What is kept of a request, whose answer is `text`."""
    endpoint = ResponsesEndpoint({"sai-model": Route("t")}, lambda: (digits, 1), keeps=True)
    answer = endpoint.parse(json.dumps({"model": "sai-model", **body}).encode(), recalled).answer
    answer.whole([Completed(text, "stop")], usage_body(1, 1))
    kept = answer.kept()
    assert kept is not None
    return kept


def kept_of(digits: str, items: list[Any], text: str, *ancestors: str) -> Kept:
    """An answer `text` to these items."""
    kept = keeping({"input": items}, text=text, digits=digits)
    return Kept(kept.id, kept.response, Raw(json.dumps(items).encode()), ancestors)
