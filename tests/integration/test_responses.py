"""The Responses API over sockets: its stream, its failures, its tools, what is left out and what is kept."""

import asyncio
import gc
import json
from typing import Any

import pytest
from aiohttp import web

from sai_proxy.keys import ADMISSION
from sai_proxy.openai_api.response_answer import ResponseAnswer
from sai_proxy.simulator import Simulator
from sai_proxy.store.memory import MemoryBlobs
from tests.conftest import StartProxy
from tests.integration.test_tools import always, served
from tests.support import USER_KEY, Answer, Proxy, check_schema, read_typed_events, request_lines, running_proxy, until

PATH = "/v1/responses"
WEATHER = {"type": "function", "name": "get_weather", "parameters": {"type": "object"}}
ROME = '{"tool_calls":[{"name":"get_weather","arguments":{"city":"Rome"}}]}'
TOOL_TEXT = "Hold on.\n" + ROME


async def ask(proxy: Proxy, input: Any = "Hello", *, headers: dict[str, str] | None = None, **fields: Any) -> Answer:
    return await proxy.post({"model": "sai-model", "input": input, **fields}, path=PATH, headers=headers)


def text_of(response: Any) -> str:
    return "".join(part["text"] for item in response["output"] for part in item.get("content", ()))


async def remembered(proxy: Proxy, name: str, **more: Any) -> Answer:
    async with proxy.session.get(f"{proxy.url}{PATH}/{name}", **more) as response:
        return Answer(response.status, response.headers.copy(), await response.text())


@pytest.mark.parametrize("path", ["/v1/responses", "/responses"])
async def test_a_plain_answer(proxy: Proxy, path: str) -> None:
    answer = await proxy.post({"model": "sai-model", "input": "Hello"}, path=path)
    assert answer.status == 200
    assert text_of(answer.json) == "SAI simulator: you wrote «Hello»."
    check_schema("response", answer.json)


async def test_a_stream_comes_at_sais_pace_and_is_whole(proxy: Proxy, sai: Simulator) -> None:
    answer = await ask(proxy, "[[pieces=3]][[delay=0.05]]Hello", stream=True)
    events = read_typed_events(answer.text)
    for event in events:
        check_schema("response_stream_event", event)
    deltas = [event["delta"] for event in events if event["type"] == "response.output_text.delta"]
    assert len(deltas) == 3
    assert text_of(events[-1]["response"]) == "".join(deltas) == "SAI simulator: you wrote «Hello»."
    assert answer.headers["x-sai-model"] == "simulator"
    assert len(sai.calls) == 1


async def test_a_first_delta_arrives_while_sai_still_writes(start_proxy: StartProxy) -> None:
    release = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"first")
        await release.wait()
        await response.write(b" last")
        return response

    async with served(answer) as url, running_proxy(url) as proxy:
        body = {"model": "sai-model", "input": "x", "stream": True}
        async with proxy.session.post(proxy.url + PATH, json=body) as response:
            seen = b""
            while b'"delta":"first"' not in seen:
                seen += await response.content.readany()
            assert b"response.output_text.done" not in seen
            release.set()
            assert b'"delta":" last"' in await response.content.read()


async def test_while_sai_is_silent_a_stream_says_so_in_events(start_proxy: StartProxy) -> None:
    proxy = await start_proxy(HEARTBEAT_SECONDS="0.05")
    events = read_typed_events((await ask(proxy, "[[silence=0.4]][[pieces=2]][[delay=0.4]]x", stream=True)).text)
    kinds = [event["type"] for event in events]
    first = kinds.index("response.output_item.added")
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds[2:first].count("response.in_progress") >= 2
    empty = [event for event in events if event["type"] == "response.output_text.delta" and not event["delta"]]
    assert len(empty) >= 2
    assert kinds.count("response.in_progress") == first - 1, "none while an item is open"


async def test_between_two_calls_a_stream_says_that_it_goes_on(start_proxy: StartProxy) -> None:
    """By an event that holds the first: an idle timer of Codex's is reset by no comment."""
    proxy = await start_proxy(HEARTBEAT_SECONDS="0.05")
    calls = [json.dumps({"name": "get_weather", "arguments": {"city": city}}) for city in ("Rome", "Quito")]
    said = json.dumps("\n".join(calls))
    asked = await ask(proxy, f"[[answer={said}]][[pieces=6]][[delay=0.2]]", tools=[WEATHER], stream=True)
    events = read_typed_events(asked.text)
    done = [index for index, event in enumerate(events) if event["type"] == "response.output_item.done"]
    begun = next(i for i, event in enumerate(events) if event.get("output_index") == 1)
    beats = events[done[0] + 1 : begun]
    assert beats
    for beat in beats:
        assert beat["type"] == "response.in_progress"
        assert beat["response"]["output"] == events[-1]["response"]["output"][:1]


async def test_a_stream_that_breaks_off_is_no_complete_answer(proxy: Proxy) -> None:
    events = read_typed_events((await ask(proxy, "[[cut=chunked]]Hello", stream=True)).text)
    assert [event["type"] for event in events[-2:]] == ["error", "response.failed"]
    assert events[-2]["error"]["code"] == "upstream_protocol"


async def test_a_refusal_keeps_its_status(proxy: Proxy, sai: Simulator) -> None:
    for stream in (False, True):
        answer = await ask(proxy, stream=stream, headers={"Authorization": "Bearer an-invalid-key"})
        assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")
    assert len(sai.calls) == 2


@pytest.mark.parametrize("stream", [False, True])
async def test_failures_are_errors_whatever_the_operator_chose(start_proxy: StartProxy, stream: bool) -> None:
    """An agent would take a message for its answer, and a cut answer breaks the Agents SDK."""
    proxy = await start_proxy(ERROR_STYLE="message", CONTEXT_OVERFLOW="length", CONTEXT_LIMIT_TOKENS="5")
    answer = await ask(proxy, "x" * 100, stream=stream)
    assert (answer.status, answer.error["code"], answer.error["param"]) == (400, "context_length_exceeded", "input")
    answer = await ask(proxy, "[[status=500]]", stream=stream)
    assert (answer.status, answer.error["code"]) == (502, "upstream_error")


async def test_a_call_is_an_item_and_its_output_goes_back(start_proxy: StartProxy) -> None:
    asked: list[Any] = []
    async with served(always(TOOL_TEXT, asked)) as url, running_proxy(url) as proxy:
        answer = await ask(proxy, tools=[WEATHER])
        said, call = answer.json["output"]
        assert said["content"][0]["text"].strip() == "Hold on."
        assert (call["type"], call["name"], json.loads(call["arguments"])) == (
            "function_call",
            "get_weather",
            {"city": "Rome"},
        )
        streamed = read_typed_events((await ask(proxy, tools=[WEATHER], stream=True)).text)
        (done,) = [e["item"] for e in streamed if e["type"] == "response.output_item.done" and "arguments" in e["item"]]
        assert done["arguments"] == call["arguments"]
        output = {"type": "function_call_output", "call_id": call["call_id"], "output": "18 degrees"}
        await ask(proxy, [{"role": "user", "content": "Weather?"}, said, call, output], tools=[WEATHER])
    assert "get_weather" in asked[-1]["inputs"]["system"]
    assert "18 degrees" in asked[-1]["inputs"]["user"]
    assert call["call_id"] in asked[-1]["inputs"]["user"]


async def test_a_namespaces_tool_is_qualified_for_the_model_and_taken_apart_again(start_proxy: StartProxy) -> None:
    asked: list[Any] = []
    tool = {"type": "namespace", "name": "agents", "description": "d", "tools": [WEATHER]}
    said = '{"tool_calls":[{"name":"agents.get_weather","arguments":{}}]}'
    async with served(always(said, asked)) as url, running_proxy(url) as proxy:
        answer = await ask(proxy, tools=[WEATHER, tool])
    (call,) = answer.json["output"]
    assert (call["namespace"], call["name"]) == ("agents", "get_weather")
    assert "agents.get_weather(" in asked[0]["inputs"]["system"]
    check_schema("response", answer.json)


async def test_tools_that_nobody_here_runs_are_in_the_log_line(
    start_proxy: StartProxy, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    proxy = await start_proxy()
    assert (await ask(proxy, tools=[{"type": "web_search"}])).status == 200
    (line,) = request_lines(caplog, proxy)
    assert line["left_out_tools"] == ["web_search"]


@pytest.mark.parametrize("stream", [False, True])
async def test_json_that_does_not_fit_is_final_for_agents(stream: bool) -> None:
    asked: list[Any] = []
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    text = {"format": {"type": "json_schema", "name": "n", "schema": schema, "strict": True}}
    async with served(always('{"b":1}', asked)) as url, running_proxy(url) as proxy:
        answer = await ask(proxy, text=text, stream=stream)
    if answer.status == 200:
        events = read_typed_events(answer.text)
        assert events[-1]["response"]["error"]["code"] == "invalid_prompt"
    else:
        assert (answer.status, answer.error["code"]) == (400, "output_mismatch")
    assert len(asked) <= 2


async def test_tool_calls_may_come_where_json_is_demanded() -> None:
    """Codex and the Agents SDK send their tools with each turn of a conversation that is to end in JSON."""
    asked: list[Any] = []
    text = {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}}
    async with served(always(ROME, asked)) as url, running_proxy(url) as proxy:
        answer = await ask(proxy, tools=[WEATHER], text=text)
    assert [item["type"] for item in answer.json["output"]] == ["function_call"]


async def test_an_answer_is_cut_where_the_client_wants_it(proxy: Proxy) -> None:
    for stream in (False, True):
        answer = await ask(proxy, "[[chars=1000]]", max_output_tokens=16, stream=stream)
        response = read_typed_events(answer.text)[-1]["response"] if stream else answer.json
        assert response["status"] == "incomplete"
        assert response["incomplete_details"] == {"reason": "max_output_tokens"}
        assert len(text_of(response)) == 64


async def test_truncation_leaves_out_the_oldest_turns(start_proxy: StartProxy, sai: Simulator) -> None:
    proxy = await start_proxy(CONTEXT_LIMIT_TOKENS="50")
    items = [{"role": "developer", "content": "rules"}, *[{"role": "user", "content": f"{n} " * 20} for n in range(9)]]
    assert (await ask(proxy, items)).status == 400
    assert (await ask(proxy, items, truncation="auto")).status == 200
    told = sai.calls[-1].body
    assert told["inputs"]["system"] == "rules"
    assert [message["content"][0] for message in told["chatMessages"]] == ["5", "6", "7", "8"]


async def test_a_templates_api_input_says_which_api_it_was(start_proxy: StartProxy, sai: Simulator) -> None:
    proxy = await start_proxy(SAI_TEMPLATE_INPUTS="system,user,tools,tool,type,api")
    await ask(proxy)
    assert sai.calls[-1].body["inputs"]["api"] == "responses"


async def test_an_answer_can_be_asked_for_again_and_forgotten(proxy: Proxy) -> None:
    made = (await ask(proxy, "one", instructions="be brief")).json
    assert made["store"] is True
    again = await remembered(proxy, made["id"])
    assert again.json == made
    items = (await remembered(proxy, f"{made['id']}/input_items")).json
    assert [item["content"][0]["text"] for item in items["data"]] == ["one"]
    async with proxy.session.delete(f"{proxy.url}{PATH}/{made['id']}") as response:
        assert await response.json() == {"id": made["id"], "object": "response", "deleted": True}
    for method in ("GET", "DELETE"):
        gone = await proxy.get(f"{PATH}/{made['id']}", method=method)
        assert (gone.status, gone.error["code"]) == (404, "response_not_found")
    lost = await ask(proxy, "two", previous_response_id=made["id"])
    assert (lost.status, lost.error["code"]) == (400, "previous_response_not_found")


async def test_input_items_come_in_pages(proxy: Proxy) -> None:
    name = (await ask(proxy, [{"role": "user", "content": str(n)} for n in range(5)])).json["id"]

    async def page(query: str) -> Any:
        return (await remembered(proxy, f"{name}/input_items?{query}")).json

    def texts(listing: Any) -> list[str]:
        return [item["content"][0]["text"] for item in listing["data"]]

    first = await page("limit=2")
    assert (texts(first), first["has_more"]) == (["4", "3"], True)
    second = await page(f"limit=3&after={first['last_id']}")
    assert (texts(second), second["has_more"]) == (["2", "1", "0"], False)
    assert texts(await page("order=asc&limit=1")) == ["0"]
    for wrong in ("limit=0", "limit=x", "order=up", "after=msg_1"):
        assert (await page(wrong))["error"]["param"] == wrong.split("=")[0]


async def test_a_conversation_goes_on_from_its_last_answer(proxy: Proxy, sai: Simulator) -> None:
    first = (await ask(proxy, "one", instructions="only now")).json["id"]
    second = read_typed_events((await ask(proxy, "two", previous_response_id=first, stream=True)).text)[-1]["response"]
    assert second["previous_response_id"] == first
    third = await ask(proxy, "three", previous_response_id=second["id"])
    assert third.status == 200
    told = sai.calls[-1].body
    assert told["inputs"]["system"] == ""
    assert [message["content"] for message in told["chatMessages"]] == [
        "one",
        "SAI simulator: you wrote «one».",
        "two",
        "SAI simulator: you wrote «two».",
        "three",
    ]


async def test_the_next_turn_may_follow_at_once(proxy: Proxy) -> None:
    """What is kept is there before the client knows that its answer is complete."""
    name: str | None = None
    for turn in range(30):
        answer = await ask(proxy, str(turn), previous_response_id=name)
        assert answer.status == 200, turn
        name = answer.json["id"]


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_is_kept_before_its_client_knows_that_it_is_complete(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    order: list[str] = []
    write = MemoryBlobs.write

    async def slow_write(self: MemoryBlobs, key: str, value: bytes) -> None:
        await asyncio.sleep(0.05)  # as a store at the other end of a network
        await write(self, key, value)
        order.append("kept")

    monkeypatch.setattr(MemoryBlobs, "write", slow_write)
    body = {"model": "sai-model", "input": "x", "stream": stream}
    async with proxy.session.post(proxy.url + PATH, json=body) as response:
        seen = b""
        while b'"status":"completed"' not in seen.rpartition(b'"response":')[2]:
            seen += await response.content.readany()
        order.append("told")
        await response.content.read()
    assert order == ["kept", "told"]


async def test_the_turn_after_a_tool_call_needs_its_output_alone(start_proxy: StartProxy) -> None:
    asked: list[Any] = []
    async with served(always(ROME, asked)) as url, running_proxy(url) as proxy:
        made = (await ask(proxy, "Weather?", tools=[WEATHER])).json
        (call,) = made["output"]
        output = {"type": "function_call_output", "call_id": call["call_id"], "output": "18 degrees"}
        answer = await ask(proxy, [output], tools=[WEATHER], previous_response_id=made["id"])
    assert answer.status == 200
    assert "Weather?" in json.dumps(asked[-1])
    assert "18 degrees" in json.dumps(asked[-1])
    assert call["call_id"] in json.dumps(asked[-1])


async def test_an_item_may_be_referred_to(proxy: Proxy, sai: Simulator) -> None:
    said = (await ask(proxy, "one")).json["output"][0]
    items = [{"role": "user", "content": "one"}, {"type": "item_reference", "id": said["id"]}]
    answer = await ask(proxy, [*items, {"role": "user", "content": "two"}])
    assert answer.status == 200
    assert [message["content"] for message in sai.calls[-1].body["chatMessages"]][1] == text_of({"output": [said]})


async def test_nobody_else_gets_an_answer(start_proxy: StartProxy) -> None:
    proxy = await start_proxy(ACCESS_TOKENS="token-a,token-b")
    mine, other, token_a, token_b = (
        {"Authorization": f"Bearer {key}"} for key in (USER_KEY, "b3RoZXIta2V5", "token-a", "token-b")
    )
    for owner, strangers in ((mine, (other, token_a)), (token_a, (token_b, mine))):
        name = (await ask(proxy, headers=owner)).json["id"]
        assert (await remembered(proxy, name, headers=owner)).status == 200
        for stranger in strangers:
            assert (await remembered(proxy, name, headers=stranger)).status == 404
            assert (await ask(proxy, previous_response_id=name, headers=stranger)).status == 400
            async with proxy.session.delete(f"{proxy.url}{PATH}/{name}", headers=stranger) as response:
                assert response.status == 404
        assert (await remembered(proxy, name, headers=owner)).status == 200
    assert (await remembered(proxy, name)).status == 401, "without a token there is nobody to belong to"


async def test_a_kept_answer_is_not_streamed_again(proxy: Proxy) -> None:
    name = (await ask(proxy)).json["id"]
    refused = await remembered(proxy, f"{name}?stream=true")
    assert (refused.status, refused.error["code"], refused.error["param"]) == (400, "unsupported_parameter", "stream")
    assert (await remembered(proxy, f"{name}?stream=false")).status == 200


async def test_store_false_keeps_nothing(proxy: Proxy) -> None:
    made = (await ask(proxy, store=False)).json
    assert made["store"] is False
    assert (await remembered(proxy, made["id"])).status == 404


async def test_a_failed_answer_is_not_kept(proxy: Proxy) -> None:
    events = read_typed_events((await ask(proxy, "[[cut=chunked]]Hello", stream=True)).text)
    assert (await remembered(proxy, events[0]["response"]["id"])).status == 404


async def test_without_a_store_references_are_refused_with_what_to_do(start_proxy: StartProxy) -> None:
    proxy = await start_proxy(RESPONSES_STORE="none")
    made = (await ask(proxy)).json
    assert made["store"] is False
    assert (await remembered(proxy, made["id"])).status == 404
    answer = await ask(proxy, previous_response_id=made["id"])
    assert (answer.status, answer.error["param"]) == (400, "previous_response_id")
    answer = await ask(proxy, [{"type": "item_reference", "id": made["output"][0]["id"]}])
    assert (answer.status, answer.error["param"]) == (400, "input[0]")
    assert "store" in answer.error["message"]
    assert "store" not in (await proxy.get("/health/readiness")).json


async def test_an_answer_expires(start_proxy: StartProxy) -> None:
    proxy = await start_proxy(RESPONSES_STORE_SECONDS="0.2")
    name = (await ask(proxy)).json["id"]

    async def gone() -> bool:
        await asyncio.sleep(0.25)  # looking at it earlier would renew it
        return (await remembered(proxy, name)).status == 404

    assert await gone()


async def test_everything_is_given_back(proxy: Proxy) -> None:
    admission = proxy.app[ADMISSION]
    name = (await ask(proxy, "x" * 50_000)).json["id"]
    await ask(proxy, "y", previous_response_id=name, stream=True)
    await ask(proxy, "[[cut=chunked]]", stream=True)
    await ask(proxy, "y", previous_response_id="resp_" + "0" * 48)
    await until(lambda: admission.requests == 0)
    assert admission.held == 0


async def test_a_stream_that_repeats_itself_is_within_what_is_admitted(start_proxy: StartProxy) -> None:
    """Its text is in it several times: once in pieces, and in each event that says what is whole."""
    proxy = await start_proxy(MAX_BUFFERED_BYTES="300000")
    for chars, ended in ((20_000, "response.completed"), (100_000, "response.failed"), (2_000_000, "response.failed")):
        *_, before, last = read_typed_events((await ask(proxy, f"[[chars={chars}]][[pieces=100]]", stream=True)).text)
        assert last["type"] == ended
        if ended == "response.failed":
            assert before["error"]["code"] == "upstream_answer_too_long"
    assert proxy.app[ADMISSION].held == 0


async def test_a_connection_keeps_nothing_of_its_last_answer(proxy: Proxy) -> None:
    """aiohttp keeps a connection's last request; SDKs keep connections."""
    for _ in range(3):
        await ask(proxy, metadata={"a": "x" * 100_000})
        await ask(proxy, metadata={"a": "x" * 100_000}, stream=True)
        assert (await ask(proxy, "[[status=400]]")).status == 400
    gc.collect()
    assert [kept for kept in gc.get_objects() if isinstance(kept, ResponseAnswer)] == []


async def test_an_answer_that_is_asked_for_again_is_accounted_for_until_it_is_read(proxy: Proxy) -> None:
    admission = proxy.app[ADMISSION]
    name = (await ask(proxy, metadata={"a": "x" * 3_000_000})).json["id"]
    for path in (name, f"{name}/input_items"):
        await remembered(proxy, path)
        assert admission.held == 0
    host, port = proxy.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1_000)
    writer.write(f"GET {PATH}/{name} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await until(lambda: admission.held > 3_000_000)
    await reader.readline()
    assert admission.held > 3_000_000
    writer.transport.abort()
    await until(lambda: admission.held == 0)


@pytest.mark.parametrize("stream", [False, True])
async def test_half_a_surrogate_pair_of_the_models_is_told_as_it_wrote_it(stream: bool) -> None:
    said = r'{"tool_calls":[{"name":"get_weather","arguments":{"city":"\ud800"}}]}'
    async with served(always(said, [])) as url, running_proxy(url) as proxy:
        answer = await ask(proxy, tools=[WEATHER], stream=stream)
        assert answer.status == 200
        response = read_typed_events(answer.text)[-1]["response"] if stream else answer.json
        assert response["output"][0]["arguments"] == r'{"city":"\ud800"}'
        chat = await proxy.ask(tools=[{"type": "function", "function": {"name": "get_weather"}}], stream=stream)
        assert chat.status == 200


async def test_a_byte_order_mark_hides_nothing(proxy: Proxy, sai: Simulator) -> None:
    body = {"model": "sai-model", "input": "x", "litellm_params": {"metadata": {"user_api_key": USER_KEY}}}
    made = await proxy.post(b"\xef\xbb\xbf" + json.dumps(body).encode(), path=PATH)
    assert sai.calls[-1].key == USER_KEY
    assert (await remembered(proxy, made.json["id"])).status == 404, "it is the user's, not everybody's"


async def test_a_namespace_may_be_called_functions() -> None:
    tool = {"type": "namespace", "name": "functions", "description": "d", "tools": [WEATHER]}
    said = '{"tool_calls":[{"name":"functions.get_weather","arguments":{}}]}'
    async with served(always(said, [])) as url, running_proxy(url) as proxy:
        (call,) = (await ask(proxy, tools=[tool])).json["output"]
    assert (call["namespace"], call["name"]) == ("functions", "get_weather")


async def test_a_client_that_leaves_while_its_answer_drains_is_no_error(
    proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    host, port = proxy.url.removeprefix("http://").split(":")
    body = json.dumps({"model": "sai-model", "input": "[[chars=4000000]]", "stream": True}).encode()
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    for wait in range(12):
        reader, writer = await asyncio.open_connection(host, int(port), limit=1_000)
        writer.write(head + body)
        await reader.readline()
        for _ in range(wait):
            await reader.read(400_000)
        writer.transport.abort()
    await until(lambda: proxy.app[ADMISSION].requests == 0)
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


@pytest.mark.parametrize("path", ["/cancel", "/compact", ""])
async def test_what_is_not_here_is_404_in_json(proxy: Proxy, path: str) -> None:
    answer = await proxy.post({}, path=f"{PATH}/resp_1{path}")
    assert answer.status in (404, 405)
    assert answer.error["type"] == "invalid_request_error"


async def test_codex_is_told_the_size_of_the_context_and_what_the_model_can(start_proxy: StartProxy) -> None:
    proxy = await start_proxy(CONTEXT_LIMIT_TOKENS="12345")
    (model,) = (await proxy.get("/v1/models?client_version=0.169.0")).json["models"]
    assert (model["slug"], model["context_window"], model["supports_parallel_tool_calls"]) == ("sai-model", 12345, True)
    assert "models" not in (await proxy.get("/v1/models")).json


async def test_an_answer_that_could_not_be_kept_in_time_is_never_told_complete(
    start_proxy: StartProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its text goes out meanwhile; the end follows only when it is kept, since it may be referred to from then on."""

    async def hang(*_: object) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr("sai_proxy.store.answer_store.AnswerStore.keep", hang)
    proxy = await start_proxy(REQUEST_DEADLINE="1")
    kinds = [event["type"] for event in read_typed_events((await ask(proxy, stream=True)).text)]
    assert "response.output_text.delta" in kinds
    assert kinds[-1] == "response.failed"
    assert "response.completed" not in kinds


async def test_no_heartbeat_comes_between_what_is_complete_and_its_being_kept(
    start_proxy: StartProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = MemoryBlobs.write

    async def slow_write(self: MemoryBlobs, key: str, value: bytes) -> None:
        await asyncio.sleep(0.5)  # several heartbeats' time
        await write(self, key, value)

    monkeypatch.setattr(MemoryBlobs, "write", slow_write)
    proxy = await start_proxy(HEARTBEAT_SECONDS="0.1")
    events = read_typed_events((await ask(proxy, stream=True)).text)  # which looks at their numbers
    assert events[-1]["type"] == "response.completed"
