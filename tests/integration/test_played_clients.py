"""Clients that cannot run here, played: what each sends, and how strictly its reader reads.

One row a client. Sources: the clients' own code, as read for the contract of this project.
"""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from sai_proxy.simulator import Simulator
from tests.support import Answer, Proxy, check_schema

Reader = Callable[[Answer], str]


def read_gitlens(answer: Answer) -> str:
    """GitLens and GitKraken: whole answers; the text, why it ended, and usage."""
    choice = answer.json["choices"][0]
    assert choice["finish_reason"] == "stop"
    assert answer.json["usage"]["total_tokens"] > 0
    return str(choice["message"]["content"])


def read_koog(answer: Answer) -> str:
    """JetBrains' Koog, in ProxyAI: fields without a default must be there and must not be null."""
    text = ""
    for event in answer.events:
        if event == "[DONE]":
            continue
        for name in ("id", "created", "model", "object"):
            assert event[name] is not None
        for choice in event["choices"]:
            assert isinstance(choice["index"], int)
            text += choice["delta"].get("content") or ""
    return text


def read_koog_whole(answer: Answer) -> str:
    body = answer.json
    for name in ("id", "created", "model", "object"):
        assert body[name] is not None
    choice = body["choices"][0]
    assert choice["finish_reason"] is not None
    assert choice["message"]["role"] == "assistant"
    return str(choice["message"]["content"])


def read_continue(answer: Answer) -> str:
    """Continue's own reader: line by line; a chunk with usage loses its content."""
    text = ""
    for line in answer.text.splitlines():
        if line.startswith(":") or not line.strip():
            assert line in ("", ": keep-alive")
            continue
        data = line.removeprefix("data:").strip()
        if data == "[DONE]":
            return text
        event = json.loads(data)
        assert "error" not in event
        if event.get("usage"):
            assert event["choices"] == []
            continue
        text += event["choices"][0]["delta"].get("content") or ""
    raise AssertionError("the stream has no end")


def read_openai_node(answer: Answer) -> str:
    """Cline and Roo, over openai-node and the AI SDK: a finish reason must come, usage last."""
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    *chunks, usage, done = answer.events
    assert done == "[DONE]"
    assert usage["usage"]["completion_tokens"] >= 0
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    return "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)


def read_open_webui(answer: Answer) -> str:
    """aiohttp reads lines of at most 64 KiB."""
    assert max(map(len, answer.text.splitlines())) < 65_536
    return read_openai_node(answer)


def read_text_completion(answer: Answer) -> str:
    return str(answer.json["choices"][0]["text"])


class Played(NamedTuple):
    """One client. body: what it sends beside the model, with TEXT where the user's text stands."""

    name: str
    body: dict[str, Any]
    reader: Reader
    headers: dict[str, str] = {}
    path: str = "/v1/chat/completions"


TEXT = "@@"
PARTS = [{"type": "text", "text": TEXT, "cache_control": {"type": "ephemeral"}}]

PLAYED = [
    Played(
        "JetBrains AI Assistant",
        {
            "messages": [{"role": "system", "content": "x"}, {"role": "user", "content": TEXT}],
            "stream": True,
            "temperature": 0.1,
            "stream_options": None,
            "tools": None,
        },
        read_koog,
        {"User-Agent": "ktor-client", "Accept": "text/event-stream"},
    ),
    Played(
        "ProxyAI chat",
        {
            "messages": [{"role": "user", "content": TEXT}],
            "stream": True,
            "max_tokens": 8192,
            "top_k": 40,
            "repetition_penalty": 1.1,
        },
        read_koog,
        {"X-LLM-Application-Tag": "proxyai"},
    ),
    Played("ProxyAI whole", {"messages": [{"role": "user", "content": TEXT}], "max_tokens": 32000}, read_koog_whole),
    Played(
        "ProxyAI completion",
        {"prompt": TEXT, "suffix": "", "stream": False, "max_tokens": 128, "stop": ["\n\n\n"]},
        read_text_completion,
        path="/v1/completions",
    ),
    Played(
        "GitLens",
        {
            "messages": [{"role": "user", "content": TEXT}],
            "stream": False,
            "max_completion_tokens": 4096,
            "temperature": 0.7,
        },
        read_gitlens,
        {"User-Agent": "node-fetch"},
    ),
    Played(
        "GitKraken",
        {"messages": [{"role": "system", "content": "commit"}, {"role": "user", "content": TEXT}]},
        read_gitlens,
        {"User-Agent": "Go-http-client/1.1", "Content-Type": "text/plain"},
        path="/chat/completions",
    ),
    Played(
        "Continue",
        {
            "messages": [{"role": "user", "content": [{"type": "text", "text": TEXT}]}],
            "stream": True,
            "max_tokens": 4096,
            "stop": [f"<stop{n}>" for n in range(6)],
            "parallel_tool_calls": False,
            "stream_options": {"include_usage": True},
        },
        read_continue,
        {"api-key": "k", "x-api-key": "k"},
    ),
    Played(
        "Cursor, plain chat",
        {
            "messages": [
                {"role": "system", "content": "x"},
                {"role": "assistant", "content": []},
                {"role": "user", "content": TEXT},
            ],
            "stream": True,
            "user": "id",
            "temperature": 0,
            "tools": [],
        },
        read_koog,
    ),
    Played(
        "Cursor, diagnosis",
        {"messages": [{"role": "system", "content": "Test"}, {"role": "user", "content": TEXT}], "max_tokens": 10000},
        read_koog_whole,
    ),
    Played(
        "Cline",
        {
            "messages": [{"role": "system", "content": "x"}, {"role": "user", "content": PARTS}],
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": 8192,
            "temperature": 0,
            "reasoning_effort": None,
        },
        read_openai_node,
    ),
    Played(
        "Roo Code",
        {
            "messages": [{"role": "developer", "content": PARTS}, {"role": "user", "content": PARTS}],
            "stream": True,
            "stream_options": {"include_usage": True},
            "tools": [],
            "parallel_tool_calls": True,
        },
        read_openai_node,
        {"Authorization": "Bearer not-provided", "HTTP-Referer": "x", "X-Title": "Roo Code"},
    ),
    Played(
        "Open WebUI",
        {
            "messages": [{"role": "user", "content": TEXT}],
            "stream": True,
            "stream_options": {"include_usage": True},
            "chat_id": "c",
            "id": "i",
            "session_id": "s",
        },
        read_open_webui,
    ),
]


def filled(value: Any, text: str) -> Any:
    """`value` with the user's text in its place."""
    if isinstance(value, dict):
        return {name: filled(item, text) for name, item in value.items()}
    if isinstance(value, list):
        return [filled(item, text) for item in value]
    return text if value == TEXT else value


ANSWER = 'Sí: "listo"\n```kotlin\nval ñ = 1\n```\n😀 ' + "x" * 300


@pytest.mark.parametrize("played", PLAYED, ids=lambda played: played.name)
async def test_a_client_reads_the_exact_answer(sai: Simulator, proxy: Proxy, played: Played) -> None:
    text = f"[[answer={json.dumps(ANSWER)}]][[split=7]]"
    answer = await proxy.post(
        {"model": "sai-model", **filled(played.body, text)}, path=played.path, headers=played.headers
    )
    assert answer.status == 200
    assert played.reader(answer) == ANSWER
    assert sai.calls[0].body["inputs"]["user"] == text
    schema = "completion" if "completion" in played.name else "chat_completion"
    if played.body.get("stream"):
        for event in answer.events[:-1]:
            check_schema(f"{schema}_chunk", event)
    else:
        check_schema(schema, answer.json)


@pytest.mark.parametrize("played", PLAYED, ids=lambda played: played.name)
async def test_a_client_reads_an_error(proxy: Proxy, played: Played) -> None:
    body = {"model": "sai-model", **filled(played.body, "[[status=500]]")}
    answer = await proxy.post(body, path=played.path, headers=played.headers)
    assert answer.status == 502
    assert isinstance(answer.error["message"], str)
    assert isinstance(answer.error["code"], str)


async def test_gitlens_leaves_out_what_is_not_supported(proxy: Proxy) -> None:
    """It looks for these words in a 400, in whatever language the rest is."""
    for fields in ({"response_format": {"type": "grammar"}}, {"tools": [{"type": "web_search"}]}):
        answer = await proxy.ask("hi", **fields)
        assert answer.status == 400
        assert next(iter(fields)) in answer.error["message"]
        assert "not supported" in answer.error["message"]


async def test_fill_in_the_middle_of_continue_is_a_404_it_understands(proxy: Proxy) -> None:
    answer = await proxy.post({"prompt": "x"}, path="/v1/fim/completions")
    assert (answer.status, answer.error["type"]) == (404, "invalid_request_error")
