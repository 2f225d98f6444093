"""Tools and answers in JSON, over a SAI that only writes text."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from aiohttp.typedefs import Handler

from sai_proxy.keys import ADMISSION
from sai_proxy.simulator import Simulator
from tests.conftest import StartProxy
from tests.integration.raw_upstream import head, raw_upstream
from tests.support import Proxy, check_schema, content_of, until

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer", "default": 1}},
            "required": ["city"],
        },
    },
}
PATCH = {"type": "custom", "custom": {"name": "patch", "description": "Changes files."}}
ROME = '{"tool_calls":[{"name":"get_weather","arguments":{"city":"Rome"}}]}'


@asynccontextmanager
async def served(answer: Handler) -> AsyncIterator[str]:
    """A SAI that answers in its own way; its base URL."""
    app = web.Application()
    app.router.add_post("/api/templates/{id}/execute", answer)
    server = TestServer(app)
    await server.start_server()
    try:
        yield str(server.make_url("")).rstrip("/")
    finally:
        await server.close()


def always(text: str, asked: list[Any], *, after_s: float = 0) -> Handler:
    """Answers with `text`, whatever is asked, and keeps what was."""

    async def answer(request: web.Request) -> web.Response:
        asked.append(await request.json())
        await asyncio.sleep(after_s)
        return web.Response(text=text)

    return answer


def says(text: str) -> str:
    """A question that the simulator answers with `text`."""
    return f"[[answer={json.dumps(text)}]]"


def calls_of(events: list[Any]) -> list[dict[str, Any]]:
    """The calls in a stream's events, put together as clients do."""
    calls: list[dict[str, Any]] = []
    for event in events:
        for choice in event["choices"] if event != "[DONE]" else []:
            for fragment in choice["delta"].get("tool_calls", []):
                if "id" in fragment:
                    calls.append({**fragment, "arguments": ""})
                calls[fragment["index"]]["arguments"] += fragment["function"]["arguments"]
    return calls


async def test_a_call_is_answered_in_openais_form(sai: Simulator, proxy: Proxy) -> None:
    answer = await proxy.ask(says(f"I look. {ROME}"), tools=[WEATHER])
    check_schema("chat_completion", answer.json)
    message = answer.json["choices"][0]["message"]
    assert message["content"] == "I look. "
    (call,) = message["tool_calls"]
    assert call["id"].startswith("call_")
    assert call["function"] == {"name": "get_weather", "arguments": '{"city":"Rome"}'}
    assert answer.json["choices"][0]["finish_reason"] == "tool_calls"
    system = sai.calls[0].body["inputs"]["system"]
    assert "get_weather(city: string, days?: integer = 1): The weather in a city." in system


async def test_a_streamed_call_is_whole(proxy: Proxy) -> None:
    answer = await proxy.ask(says(f"I look. {ROME}") + "[[split=3]]", tools=[WEATHER], stream=True)
    events = answer.events
    for event in events[:-1]:
        check_schema("chat_completion_chunk", event)
    assert content_of(events) == "I look. "
    (call,) = calls_of(events)
    assert (call["function"]["name"], call["arguments"]) == ("get_weather", '{"city":"Rome"}')
    assert events[-2]["choices"][0]["finish_reason"] == "tool_calls"
    assert events[-1] == "[DONE]"


async def test_instructions_follow_the_users_own_system_text(sai: Simulator, proxy: Proxy) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is the weather?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "call_1",
                    "type": "function",
                    "function": {"name": "get_weather", "arguments": '{"city": "Rome"}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": 'sunny {"tool_calls":[]} ```'},
    ]
    await proxy.ask(messages=messages, tools=[WEATHER, PATCH])
    body = sai.calls[0].body
    own, _, asked = body["inputs"]["system"].partition("\n\n")
    assert own == "Be brief."
    assert "patch(free text): Changes files." in asked
    assert [message["role"] for message in body["chatMessages"]] == ["user", "assistant", "user"]
    assert body["chatMessages"][1]["content"] == (
        '{"tool_calls":[{"name":"get_weather","arguments":{"city": "Rome"}}]}'
    )
    assert body["chatMessages"][2]["content"].startswith('Result of get_weather (call_1):\nsunny {"tool_calls":[]} ```')


async def test_a_history_with_calls_needs_no_tools(sai: Simulator, proxy: Proxy) -> None:
    messages = [
        {
            "role": "assistant",
            "tool_calls": [{"id": "c", "type": "function", "function": {"name": "old", "arguments": "{broken"}}],
        },
        {"role": "tool", "tool_call_id": "c", "content": "failed"},
        {"role": "user", "content": says(ROME)},
    ]
    answer = await proxy.ask(messages=messages)
    assert answer.content == ROME, "nothing was offered, so nothing is a call"
    history = [message["content"] for message in sai.calls[0].body["chatMessages"]]
    assert history[:2] == ['{"tool_calls":[{"name":"old","arguments":"{broken"}]}', "Result of old (c):\nfailed"]
    assert sai.calls[0].body["inputs"]["system"] == ""


async def test_tools_that_may_not_be_called_are_not_shown(sai: Simulator, proxy: Proxy) -> None:
    answer = await proxy.ask(says(ROME), tools=[WEATHER], tool_choice="none")
    assert answer.content == ROME
    assert sai.calls[0].body["inputs"]["system"] == ""


async def test_instructions_count_in_the_context_guard(start_proxy: StartProxy) -> None:
    proxy = await start_proxy(CONTEXT_LIMIT_TOKENS="100", CONTEXT_OVERFLOW="error")
    assert (await proxy.ask("hi")).status == 200
    answer = await proxy.ask("hi", tools=[WEATHER])
    assert answer.error["code"] == "context_length_exceeded"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_demanded_call_that_does_not_come_is_asked_for_once_more(start_proxy: StartProxy, stream: bool) -> None:
    asked: list[Any] = []
    async with served(always("No, thanks.", asked)) as url:
        proxy = await start_proxy(SAI_URL=url)
        answer = await proxy.ask("?", tools=[WEATHER], tool_choice="required", stream=stream)
    assert (answer.status, answer.error["code"]) == (502, "tool_choice_disobeyed")
    assert len(asked) == 2
    assert asked[1]["chatMessages"][1]["content"] == "No, thanks."
    assert "get_weather" in asked[1]["inputs"]["user"]


@pytest.mark.parametrize("stream", [False, True])
async def test_the_second_answer_counts(start_proxy: StartProxy, stream: bool) -> None:
    """The first is prose, the second the call."""
    answers = iter(["I would rather talk.", ROME])

    async def answer(request: web.Request) -> web.Response:
        return web.Response(text=next(answers), headers={"prompttokens": "10", "completiontokens": "5"})

    async with served(answer) as url:
        proxy = await start_proxy(SAI_URL=url)
        given = await proxy.ask("?", tools=[WEATHER], tool_choice="required", stream=stream)
    if stream:
        assert content_of(given.events) == ""
        assert calls_of(given.events)[0]["arguments"] == '{"city":"Rome"}'
    else:
        assert given.json["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "get_weather"
        assert given.json["usage"]["total_tokens"] == 30, "of both"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_cut_call_is_an_error_and_no_call(proxy: Proxy, stream: bool) -> None:
    answer = await proxy.ask(says("Writing. " + ROME[:-12]), tools=[WEATHER], stream=stream)
    if stream:
        assert content_of(answer.events[:-1]) == "Writing. "
        error = answer.events[-1]["error"]
    else:
        assert answer.status == 400
        error = answer.error
    assert (error["code"], error["type"]) == ("tool_call_cut", "invalid_request_error")
    assert "tool_calls" not in answer.text


async def test_several_choices_call_each(proxy: Proxy) -> None:
    answer = await proxy.ask(says(ROME), tools=[WEATHER], n=2)
    calls = [choice["message"]["tool_calls"][0] for choice in answer.json["choices"]]
    assert len({call["id"] for call in calls}) == 2


async def test_deprecated_functions_are_answered_in_their_form(proxy: Proxy) -> None:
    answer = await proxy.ask(says(ROME), functions=[WEATHER["function"]])
    choice = answer.json["choices"][0]
    assert choice["message"]["function_call"] == {"name": "get_weather", "arguments": '{"city":"Rome"}'}
    assert choice["finish_reason"] == "function_call"


async def test_stop_and_length_concern_text_alone(proxy: Proxy) -> None:
    answer = await proxy.ask(says(f"abc {ROME}"), tools=[WEATHER], stop="city", max_tokens=2)
    assert answer.json["choices"][0]["message"]["tool_calls"]
    answer = await proxy.ask(says(f"abc STOP {ROME}"), tools=[WEATHER], stop="STOP")
    assert (answer.content, answer.json["choices"][0]["finish_reason"]) == ("abc ", "stop")


# Structured output

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city", "days"],
    "additionalProperties": False,
}


def json_schema(*, strict: bool) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "trip", "strict": strict, "schema": SCHEMA}}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "text",
    ['{"city":"Rome","days":2}', 'Sure:\n```json\n{"city":"Rome","days":2}\n```\nEnjoy!'],
    ids=["bare", "chatter"],
)
async def test_json_is_freed_of_fences_and_chatter(sai: Simulator, proxy: Proxy, text: str, stream: bool) -> None:
    answer = await proxy.ask(says(text) + "[[split=4]]", response_format=json_schema(strict=True), stream=stream)
    content = content_of(answer.events) if stream else answer.content
    assert json.loads(content) == {"city": "Rome", "days": 2}
    assert len(sai.calls) == 1
    assert '"required":["city","days"]' in sai.calls[0].body["inputs"]["system"]


async def test_json_that_does_not_fit_is_asked_for_once_more_with_the_validators_words(
    sai: Simulator, proxy: Proxy
) -> None:
    answer = await proxy.ask(says('{"city":"Rome","days":"two"}'), response_format=json_schema(strict=True))
    assert (answer.status, answer.error["code"]) == (502, "output_mismatch")
    assert len(sai.calls) == 2
    assert 'at /days: "two" is not of type "integer"' in sai.calls[1].body["inputs"]["user"]


async def test_without_strict_the_second_best_is_good_enough(start_proxy: StartProxy) -> None:
    wrong = '{"city":"Rome","days":"two"}'
    asked: list[Any] = []
    async with served(always(wrong, asked)) as url:
        proxy = await start_proxy(SAI_URL=url)
        answer = await proxy.ask("?", response_format=json_schema(strict=False))
    assert answer.content == wrong
    assert len(asked) == 2


async def test_streamed_json_that_does_not_fit_ends_in_an_error(proxy: Proxy) -> None:
    answer = await proxy.ask(
        says('{"city":"Rome","days":"two"}') + "[[split=5]]", response_format=json_schema(strict=True), stream=True
    )
    assert answer.events[-1]["error"]["code"] == "output_mismatch"


async def test_a_call_may_come_before_the_json(proxy: Proxy) -> None:
    answer = await proxy.ask(says(ROME), tools=[WEATHER], response_format=json_schema(strict=True))
    assert answer.json["choices"][0]["finish_reason"] == "tool_calls"


async def test_strict_arguments_are_checked(start_proxy: StartProxy) -> None:
    strict = {"type": "function", "function": {**WEATHER["function"], "strict": True}}  # type: ignore[dict-item]
    asked: list[Any] = []
    async with served(always(ROME.replace('"Rome"', "7"), asked)) as url:
        proxy = await start_proxy(SAI_URL=url)
        answer = await proxy.ask("?", tools=[strict])
        assert (answer.status, answer.error["code"]) == (502, "output_mismatch")
        assert len(asked) == 2
        assert (await proxy.ask("?", tools=[WEATHER])).status == 200


# At SAI's pace


@pytest.mark.parametrize("begun", ["The weather", "In code: {x} `y` and"])
async def test_text_does_not_wait_for_the_rest(start_proxy: StartProxy, begun: str) -> None:
    start = head("Content-Type: text/plain", "Transfer-Encoding: chunked")
    piece = f"{len(begun):x}\r\n{begun}\r\n".encode()
    async with raw_upstream(start, piece, 3600.0) as upstream:
        proxy = await start_proxy(SAI_URL=upstream.url)
        body = {
            "model": "sai-model",
            "stream": True,
            "tools": [WEATHER],
            "messages": [{"role": "user", "content": "?"}],
        }
        async with proxy.session.post(f"{proxy.url}/v1/chat/completions", json=body) as response:
            received = b""
            while begun.encode() not in received:
                received += await asyncio.wait_for(response.content.readany(), 10)


@pytest.mark.parametrize("stream", [False, True])
async def test_text_that_waits_for_a_call_counts_as_held_until_the_client_leaves(
    start_proxy: StartProxy, stream: bool
) -> None:
    start = head("Content-Type: text/plain", "Transfer-Encoding: chunked")
    piece = b"186a0\r\n" + b"x" * 100_000 + b"\r\n"
    async with raw_upstream(start, piece, piece, 3600.0) as upstream:
        proxy = await start_proxy(SAI_URL=upstream.url)
        asked = asyncio.ensure_future(proxy.ask("?", tools=[WEATHER], tool_choice="required", stream=stream))
        admission = proxy.app[ADMISSION]
        await until(lambda: admission.held > 200_000)
        asked.cancel()
        await until(lambda: not (admission.held or admission.requests))


async def test_a_second_ask_counts_as_held(start_proxy: StartProxy) -> None:
    """Its question is about as long as the first, and made beside it."""
    asked: list[Any] = []
    held: list[int] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(await request.json())
        held.append(proxy.app[ADMISSION].held)
        return web.Response(text="nothing" if len(asked) == 1 else ROME)

    async with served(answer) as url:
        proxy = await start_proxy(SAI_URL=url)
        assert (await proxy.ask("w " * 50_000, tools=[WEATHER], tool_choice="required")).status == 200
        assert len(asked) == 2
        assert held[1] > 290_000, "the conversation, and the question made of it"
        await until(lambda: not proxy.app[ADMISSION].held)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_second_ask_is_made_once_however_long_it_takes(start_proxy: StartProxy, stream: bool) -> None:
    """Heartbeats go on meanwhile."""
    asked: list[Any] = []
    async with served(always("nothing", asked, after_s=0.3)) as url:
        proxy = await start_proxy(SAI_URL=url, HEARTBEAT_SECONDS="0.05")
        answer = await proxy.ask("?", tools=[WEATHER], tool_choice="required", stream=stream)
    assert "tool_choice_disobeyed" in answer.text
    assert len(asked) == 2


@pytest.mark.parametrize("stream", [False, True])
async def test_a_call_of_what_there_is_not_is_asked_about_once(start_proxy: StartProxy, stream: bool) -> None:
    """And then is text, since the client has to see something."""
    unknown = '{"tool_calls":[{"name":"say_goodbye","arguments":{}}]}'
    asked: list[Any] = []
    async with served(always(unknown, asked)) as url:
        proxy = await start_proxy(SAI_URL=url)
        answer = await proxy.ask("?", tools=[WEATHER], stream=stream)
    assert (content_of(answer.events) if stream else answer.content) == unknown
    assert len(asked) == 2
    assert "get_weather" in asked[1]["inputs"]["user"]


async def test_a_client_that_leaves_ends_the_second_ask(start_proxy: StartProxy) -> None:
    second, ended = asyncio.Event(), asyncio.Event()
    asked: list[None] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(None)
        if len(asked) == 2:
            second.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()
        return web.Response(text="nothing")

    async with served(answer) as url:
        proxy = await start_proxy(SAI_URL=url)
        asking = asyncio.ensure_future(proxy.ask("?", tools=[WEATHER], tool_choice="required", stream=True))
        await asyncio.wait_for(second.wait(), 5)
        asking.cancel()
        await asyncio.wait_for(ended.wait(), 5)
        await until(lambda: not proxy.lifecycle.answering)


# Templates that have inputs for tools


async def test_a_template_with_an_input_for_tools_is_told_nothing_twice(
    sai: Simulator, start_proxy: StartProxy
) -> None:
    proxy = await start_proxy(SAI_TEMPLATE_INPUTS="system,user,tools,tool,type,api")
    answer = await proxy.ask(says(ROME), tools=[WEATHER])
    assert answer.json["choices"][0]["finish_reason"] == "tool_calls"
    inputs = sai.calls[0].body["inputs"]
    assert json.loads(inputs["tools"]) == [WEATHER]
    assert (inputs["system"], inputs["type"], inputs["api"], inputs["tool"]) == ("", "message", "chat", None)
    await proxy.ask("hi")
    assert sai.calls[1].body["inputs"]["tools"] is None
