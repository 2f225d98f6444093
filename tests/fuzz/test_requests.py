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
from sai_proxy.openai_api.kept_responses import STAMP_DIGITS
from sai_proxy.openai_api.responses_endpoint import ResponsesEndpoint
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
RESPONSES: dict[str, Any] = {
    "model": "sai-model",
    "input": [
        {"role": "developer", "content": "d"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", "namespace": "n"},
        {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "done"}]},
        {"type": "item_reference", "id": "msg_" + "0" * 50},
        {"role": "assistant", "content": [{"type": "output_text", "text": "x", "annotations": []}]},
    ],
    "instructions": "i",
    "stream": False,
    "store": True,
    "previous_response_id": None,
    "tools": [
        {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": False},
        {"type": "namespace", "name": "n", "description": "d", "tools": [{"type": "function", "name": "f"}]},
        {"type": "web_search"},
    ],
    "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]},
    "text": {"format": {"type": "text"}, "verbosity": "low"},
    "include": [],
    "reasoning": {"effort": "low"},
    "metadata": {"a": "b"},
    "truncation": "auto",
    "max_output_tokens": 16,
}
ROUTES = {"sai-model": Route("t")}
ENDPOINTS: list[Endpoint] = [
    chat_completions(ROUTES, lambda: ("0" * 24, 0)),
    completions(ROUTES, lambda: ("0" * 24, 0)),
    ResponsesEndpoint(ROUTES, lambda: ("0" * STAMP_DIGITS, 0), keeps=True),
]
bodies = st.one_of(
    mutated_json(CHAT),
    mutated_json({**CHAT, "stream": True, "messages": MESSAGES[:1]}),
    mutated_json(PROMPT),
    mutated_json(RESPONSES),
    mutated_json({**RESPONSES, "stream": True, "input": RESPONSES["input"][:5]}),
    mutated_bytes(json.dumps(CHAT).encode(), (b"\\ud800", b"\xff", b"[" * 2_000, b"1e999", b"\\u0000")),
    st.binary(max_size=100),
)


@settings(max_examples=500 * SHARE)
@given(bodies)
@example(b"")
@example(b"\xef\xbb\xbf")
@example(b"[" * 100_000)
@example(b'{"model":' + b'{"a":' * 50_000)
@example(b'{"model": "\x80sai-model", "messages": []}')
@example(b'{"model": "sai-model", "messages": [{"role": "user", "content": "\\ud800"}]}')
def test_decoding_raises_nothing_but_what_a_client_is_told(body: bytes) -> None:
    user_key_in(body)
    for endpoint in ENDPOINTS:
        endpoint.likely_answer(body)
        endpoint.references(body)
        with suppress(ProxyError):
            parsed = endpoint.parse(body)
            parsed.answer.opening(0)


def is_legacy(body: bytes) -> bool:
    return b'"prompt"' in body and b'"messages"' not in body


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(bodies)
def test_a_body_is_answered_or_refused_in_openais_form(server: FuzzedServer, body: bytes) -> None:
    send(server, body)


def send(server: FuzzedServer, body: bytes) -> None:
    if b'"input"' in body and b'"messages"' not in body:
        answer = server.ask(request(body, target="POST /v1/responses HTTP/1.1"))
        if answer.status == 200 and answer.headers["content-type"] == "application/json":
            check_schema("response", json.loads(answer.body))
        elif answer.status == 200:
            assert answer.body.rstrip().endswith(b"}")
        else:
            answer.check()
        return
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
