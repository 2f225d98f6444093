"""Bodies of requests that are nearly right."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sai_proxy.conversation.chat import Route
from sai_proxy.errors import ProxyError
from sai_proxy.openai_api.endpoints import Endpoint, chat_completions, completions
from sai_proxy.openai_api.fields import user_key_in
from tests.fuzz.mutations import SHARE, mutated_bytes, mutated_json
from tests.fuzz.server import FuzzedServer, request
from tests.support import ROOT, check_schema

CORPUS = sorted((ROOT / "tests/fuzz/corpus/requests").iterdir())

MESSAGES: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief"},
    {"role": "developer", "content": [{"type": "text", "text": "or not"}]},
    {"role": "user", "content": "Hi", "name": "me"},
    {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}]},
    {"role": "tool", "tool_call_id": "1", "content": "done"},
    {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}], "refusal": "no"},
    {"role": "function", "name": "f", "content": "x"},
    {"role": "user", "content": [{"type": "text", "text": "Hi"}, {"type": "text", "text": "there"}]},
]
CHAT: dict[str, Any] = {
    "model": "sai-model",
    "messages": MESSAGES,
    "stream": False,
    "stream_options": {"include_usage": True},
    "n": 2,
    "max_tokens": 10,
    "max_completion_tokens": 20,
    "stop": ["END", "\n\n"],
    "response_format": {"type": "text"},
    "tools": [],
    "tool_choice": "none",
    "logit_bias": {},
    "modalities": ["text"],
    "metadata": {"a": "b"},
    "temperature": 1.5,
    "seed": 7,
    "user": "me",
    "litellm_params": {"metadata": {"user_api_key": "key"}},
}
PROMPT: dict[str, Any] = {
    "model": "sai-model",
    "prompt": ["a", "b"],
    "suffix": "c",
    "echo": True,
    "best_of": 1,
    "n": 2,
    "stop": "x",
    "stream": False,
    "max_tokens": 16,
}
ROUTES = {"sai-model": Route("t")}
ENDPOINTS: list[Endpoint] = [
    chat_completions(ROUTES, lambda: ("0" * 24, 0)),
    completions(ROUTES, lambda: ("0" * 24, 0)),
]
bodies = st.one_of(
    mutated_json(CHAT),
    mutated_json({**CHAT, "stream": True, "messages": MESSAGES[:1]}),
    mutated_json(PROMPT),
    mutated_bytes(json.dumps(CHAT).encode(), (b"\\ud800", b"\xff", b"[" * 2_000, b"1e999", b"\\u0000")),
    st.binary(max_size=100),
)


@settings(max_examples=500 * SHARE)
@given(bodies)
@example(b"")
@example(b"\xef\xbb\xbf")
@example(b"[" * 100_000)
@example(b'{"model":' + b'{"a":' * 50_000)
@example(b'{"model": "sai-model", "messages": [{"role": "user", "content": "\\ud800"}]}')
def test_decoding_raises_nothing_but_what_a_client_is_told(body: bytes) -> None:
    user_key_in(body)
    for endpoint in ENDPOINTS:
        endpoint.likely_answer(body)
        with suppress(ProxyError):
            endpoint.parse(body)


def is_legacy(body: bytes) -> bool:
    return b'"prompt"' in body and b'"messages"' not in body


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(bodies)
def test_a_body_is_answered_or_refused_in_openais_form(server: FuzzedServer, body: bytes) -> None:
    send(server, body)


def send(server: FuzzedServer, body: bytes) -> None:
    if is_legacy(body):
        answer = server.ask(request(body, target="POST /v1/completions HTTP/1.1"))
        if answer.status == 200 and answer.headers["content-type"] == "application/json":
            check_schema("completion", json.loads(answer.body))
        elif answer.status != 200:
            answer.check()
    else:
        server.ask(request(body)).check()


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name)
def test_what_was_found_once(server: FuzzedServer, path: Any) -> None:
    body = path.read_bytes()
    test_decoding_raises_nothing_but_what_a_client_is_told.hypothesis.inner_test(body)  # type: ignore[attr-defined]
    send(server, body)
