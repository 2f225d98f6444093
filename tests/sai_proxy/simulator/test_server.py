"""The simulator against what SAI's callers have seen."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from sai_proxy.simulator import Simulator

EXECUTE = "/api/templates/aaaaaaaaaaaaaaaaaaaaaaaa/execute"
KEY = {"X-Api-Key": "key"}
COOKIE = {"Cookie": ".AspNetCore.Cookies=x"}


@pytest.fixture
async def session(sai: Simulator) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(sai.url) as session:
        yield session


async def call(session: aiohttp.ClientSession, user: str, path: str = EXECUTE, **headers: str) -> tuple[int, str, Any]:
    body = {"inputs": {"system": "", "user": user}}
    async with session.post(
        path,
        json=body,
        headers={name.replace("_", "-"): value for name, value in headers.items()} or KEY,
        allow_redirects=False,
    ) as response:
        return response.status, await response.text(), response.headers


async def test_success_is_bare_text_with_usage_headers(session: aiohttp.ClientSession) -> None:
    status, text, headers = await call(session, "[[answer=¡Hola, José!]]")
    assert (status, text) == (200, "¡Hola, José!")
    assert headers["Content-Type"] == "text/plain; charset=utf-8"
    assert (headers["prompttokens"], headers["completiontokens"], headers["model"]) == ("17", "2", "simulator")


async def test_a_caller_that_accepts_json_alone_gets_a_quoted_string(session: aiohttp.ClientSession) -> None:
    _, text, headers = await call(session, "[[answer=a]]", X_Api_Key="k", Accept="application/json")
    assert (text, headers["Content-Type"]) == ('"a"', "application/json; charset=utf-8")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"X_Api_Key": "any"}, 200),
        ({"Cookie": ".AspNetCore.Cookies=any"}, 200),
        ({"Accept": "*/*"}, 401),
        ({"X_Api_Key": "invalid"}, 401),
        ({"X_Api_Key": "denied"}, 403),
        ({"X_Api_Key": "limited"}, 429),
        ({"X_Api_Key": "quota"}, 429),
        ({"Cookie": "c=expired"}, 302),
        ({"X_Api_Key": "good", "Cookie": "c=expired"}, 200),
    ],
)
async def test_credentials_decide(session: aiohttp.ClientSession, headers: dict[str, str], status: int) -> None:
    assert (await call(session, "x", **headers))[0] == status


async def test_a_limit_counts_the_calls_of_one_key_and_template(session: aiohttp.ClientSession) -> None:
    key = {"X_Api_Key": "limited-after-2"}
    assert [(await call(session, "x", **key))[0] for _ in range(3)] == [200, 200, 429]
    assert (await call(session, "x", "/api/templates/other/execute", **key))[0] == 200


async def test_a_failure_can_pass(session: aiohttp.ClientSession) -> None:
    assert [(await call(session, "[[status=503]][[times=2]]"))[0] for _ in range(3)] == [503, 503, 200]


async def test_templates_and_overrides_can_be_unknown(session: aiohttp.ClientSession) -> None:
    assert (await call(session, "x", "/api/templates/404/execute"))[0] == 404
    assert (await call(session, "x", EXECUTE + "?modelOverride=unknown"))[0] == 500
    assert (await call(session, "x", EXECUTE + "?modelOverride=gpt"))[2]["model"] == "gpt"


async def test_what_it_received_is_recorded_and_echoed(sai: Simulator, session: aiohttp.ClientSession) -> None:
    _, text, _ = await call(session, "[[echo]]")
    assert json.loads(text) == sai.calls[0].body == {"inputs": {"system": "", "user": "[[echo]]"}}
    assert sai.calls[0].key == "key"
    assert "key" not in repr(sai.calls[0]).replace("X-Api-Key", "")
    await asyncio.wait_for(sai.calls[0].ended.wait(), 1)
    assert sai.calls[0].completed


async def test_a_caller_that_leaves_is_seen(sai: Simulator, session: aiohttp.ClientSession) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(call(session, "[[silence=forever]]"), 0.1)
    await asyncio.wait_for(sai.calls[0].ended.wait(), 1)
    assert not sai.calls[0].completed


# The endpoints beside execute


async def post(session: aiohttp.ClientSession, path: str, body: Any, headers: dict[str, str]) -> tuple[int, str]:
    async with session.post(path, json=body, headers=headers, allow_redirects=False) as response:
        return response.status, await response.text()


def messages(text: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **more}


async def test_chat_execute(session: aiohttp.ClientSession) -> None:
    path = "/api/templates/t/chatexecute"
    status, text = await post(session, path, messages("[[answer=a]]"), COOKIE)
    assert (status, json.loads(text)["message"], json.loads(text)["maxTokensExpired"]) == (200, "a", False)
    _, text = await post(session, path, messages("[[answer=a]][[nested]][[expired]]"), COOKIE)
    assert (json.loads(text)["message"], json.loads(text)["maxTokensExpired"]) == ({"content": "a"}, True)
    assert await post(session, path, messages("[[answer=a]][[plain]]"), COOKIE) == (200, "a")
    assert (await post(session, path, messages("x"), KEY))[0] == 302


async def test_streaming_responses(session: aiohttp.ClientSession) -> None:
    path = "/api/streaming-responses/stream"
    _, text = await post(session, path, messages("[[answer=a b c]]"), COOKIE)
    names = [line.removeprefix("event: ") for line in text.splitlines() if line.startswith("event: ")]
    assert names == [
        "responsecreated",
        *["outputtextdelta"] * 3,
        *["contentpartdone", "outputitemdone", "responsecompleted", "complete"],
    ]
    _, text = await post(session, path, messages("[[answer=a b]][[deltas]]"), COOKIE)
    assert "responsecompleted" not in text
    assert "event: complete" in text
    _, text = await post(session, path, messages("[[answer=a b]][[completed]]"), COOKIE)
    assert "outputtextdelta" not in text
    _, text = await post(session, path, messages("[[answer=a b]][[unclosed]]"), COOKIE)
    assert "complete" not in text
    _, text = await post(session, path, messages("[[answer=a b]][[document]]"), COOKIE)
    assert json.loads(text)["items"][0]["content"][0]["text"] == "a b"
    _, text = await post(session, path, messages("[[incomplete]]"), COOKIE)
    assert "event: complete" not in text
    with pytest.raises(aiohttp.ClientError):
        await post(session, path, messages("[[answer=a b c d]][[cut]]"), COOKIE)


async def test_prompt(session: aiohttp.ClientSession) -> None:
    path = "/api/prompt/v1/chat/completions"
    flat, nested = {"type": "function", "name": "f"}, {"type": "function", "function": {"name": "f"}}
    _, text = await post(session, path, messages("[[answer=a]]", model="gpt-4o"), KEY)
    assert json.loads(text)["choices"][0]["message"]["content"] == "a"
    _, text = await post(session, path, messages("[[answer=a]][[responses]]", model="gpt-4o"), KEY)
    assert json.loads(text)["output_text"] == "a"
    for model, tool, status in [
        ("gpt-5.2", flat, 200),
        ("gpt-5.2", nested, 400),
        ("gpt-5.2-emea", nested, 200),
        ("gpt-4o", flat, 400),
        ("gemini-3", nested, 400),
    ]:
        assert (await post(session, path, messages("x", model=model, tools=[tool]), KEY))[0] == status
    assert (await post(session, path, messages("x", model="m", functions=[]), KEY))[0] == 400
    assert (await post(session, path, messages("[[status=429]][[retry-after=3]]", model="m"), KEY))[0] == 429
    assert (await post(session, path, messages("x", model="m"), {"X-Api-Key": "invalid"}))[0] == 302


async def test_mcp(session: aiohttp.ClientSession) -> None:
    def request(text: str) -> dict[str, Any]:
        arguments = {"input": f"Prompt: {text}"}
        return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "x", "arguments": arguments}}

    _, text = await post(session, "/api/mcp", request("[[answer=a]]"), KEY)
    assert json.loads(text)["result"]["content"][0]["text"] == "a"
    _, text = await post(session, "/api/mcp", request("[[answer=a]][[sse]]"), KEY)
    assert text.startswith("data: {")
    status, text = await post(session, "/api/mcp", request("x"), {"X-Api-Key": "denied"})
    assert status == 200
    assert "Access denied" in text
