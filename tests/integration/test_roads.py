"""Every road over real sockets, by what each can: one API for the client, whichever endpoint of SAI answers."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from sai_proxy.keys import ADMISSION
from sai_proxy.sai_api.roads import make_roads
from sai_proxy.simulator import Simulator
from tests.conftest import StartProxy
from tests.support import (
    Answer,
    Proxy,
    check_schema,
    content_of,
    environment,
    fields_of,
    read_typed_events,
    request_lines,
    running_proxy,
    until,
)

MODELS = {
    "template": "sai-model=template:t1",
    "chat": "charla=chat:t2",
    "stream": "vivo=stream:claude-sonnet-4-6",
    "prompt": "nativo=prompt:gpt-4o",
}
NAMES = {road: entry.partition("=")[0] for road, entry in MODELS.items()}
ALL = {"SAI_MODELS": ",".join(MODELS.values())}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
ROME = '{"tool_calls":[{"name":"weather","arguments":{"city":"Rome"}}]}'
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}
each_road = pytest.mark.parametrize("road", MODELS)


def test_every_road_is_tried_here() -> None:
    assert set(MODELS) == set(make_roads())


@pytest.fixture
async def proxy(start_proxy: StartProxy) -> Proxy:
    return await start_proxy(**ALL)


async def ask(proxy: Proxy, road: str, text: str = "Hello", **fields: Any) -> Answer:
    return await proxy.ask(text, model=NAMES[road], **fields)


@each_road
@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer(proxy: Proxy, sai: Simulator, road: str, stream: bool) -> None:
    answer = await ask(proxy, road, '[[answer="uno ñ 漢 dos"]]', stream=stream)
    assert answer.status == 200
    if stream:
        assert content_of(answer.events) == "uno ñ 漢 dos"
        assert answer.events[-1] == "[DONE]"
        for event in answer.events[:-1]:
            check_schema("chat_completion_chunk", event)
    else:
        assert answer.content == "uno ñ 漢 dos"
        check_schema("chat_completion", answer.json)
    assert len(sai.calls) == 1
    assert proxy.app[ADMISSION].held == 0


@each_road
async def test_system_text_arrives(proxy: Proxy, sai: Simulator, road: str) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    await proxy.post({"model": NAMES[road], "messages": messages})
    assert "Be brief." in json.dumps(sai.calls[-1].body)


@each_road
async def test_several_choices_and_legacy_completions(proxy: Proxy, sai: Simulator, road: str) -> None:
    answer = await ask(proxy, road, "[[answer=x]]", n=3)
    assert [choice["message"]["content"] for choice in answer.json["choices"]] == ["x"] * 3
    prompts = {"model": NAMES[road], "prompt": ["[[answer=a]]", "[[answer=b]]"]}
    legacy = await proxy.post(prompts, path="/v1/completions")
    assert [choice["text"] for choice in legacy.json["choices"]] == ["a", "b"]
    assert len(sai.calls) == 5


@each_road
@pytest.mark.parametrize("stream", [False, True])
async def test_the_responses_api(proxy: Proxy, road: str, stream: bool) -> None:
    body = {"model": NAMES[road], "input": "[[answer=x y]]", "stream": stream}
    answer = await proxy.post(body, path="/v1/responses")
    response = read_typed_events(answer.text)[-1]["response"] if stream else answer.json
    check_schema("response", response)
    assert response["output"][0]["content"][0]["text"] == "x y"


@each_road
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("directive", "status", "code"),
    [
        ("status=401", 401, "upstream_auth"),
        ("status=403", 403, "template_access_denied"),
        ("status=404", 404, "model_not_found"),
        ("status=429", 429, "rate_limit_exceeded"),
        ("status=500", 502, "upstream_error"),
        ("status=503", 503, "upstream_unavailable"),
        ("overflow", 400, "context_length_exceeded"),
        ("login=redirect", 401, "upstream_auth"),
        ("login=page", 401, "upstream_auth"),
        ("redirect=https://elsewhere.example.com", 502, "upstream_error"),
        ("reset=before", 502, "upstream_protocol"),
    ],
)
async def test_a_refusal_is_the_same_on_every_road(
    start_proxy: StartProxy, road: str, directive: str, status: int, code: str, stream: bool
) -> None:
    proxy = await start_proxy(**ALL, CONTEXT_OVERFLOW="error")
    answer = await ask(proxy, road, f"[[{directive}]]", stream=stream)
    assert (answer.status, answer.error["code"]) == (status, code)


@each_road
async def test_an_answer_that_is_cut_off_says_so(proxy: Proxy, road: str) -> None:
    plain = await ask(proxy, road, "[[chars=400]][[cut=chunked]][[pieces=4]]")
    assert (plain.status, plain.error["code"]) == (502, "upstream_protocol")
    streamed = await ask(proxy, road, "[[chars=400]][[cut=chunked]][[pieces=4]]", stream=True)
    error = streamed.error if streamed.status != 200 else streamed.events[-1]["error"]
    assert error["code"] == "upstream_protocol"
    assert proxy.app[ADMISSION].held == 0


@each_road
async def test_a_client_that_leaves_frees_sais_connection(proxy: Proxy, sai: Simulator, road: str) -> None:
    body = {"model": NAMES[road], "stream": True, "messages": [{"role": "user", "content": "[[silence=30]]"}]}
    request = asyncio.ensure_future(proxy.session.post(proxy.url + "/v1/chat/completions", json=body))
    await until(lambda: sai.calls)
    request.cancel()
    await asyncio.wait_for(sai.calls[0].ended.wait(), 10)
    assert not sai.calls[0].completed
    await until(lambda: proxy.app[ADMISSION].requests == 0)


@each_road
@pytest.mark.parametrize("stream", [False, True])
async def test_tools_are_called_whoever_can_call_them(proxy: Proxy, sai: Simulator, road: str, stream: bool) -> None:
    text = '[[call=weather]][[arguments={"city":"Rome"}]]' if road == "prompt" else f"[[answer={json.dumps(ROME)}]]"
    answer = await ask(proxy, road, text, tools=[WEATHER], stream=stream)
    if stream:
        deltas = [event["choices"][0]["delta"] for event in answer.events[:-1]]
        calls = [call for delta in deltas for call in delta.get("tool_calls", ())]
        name, arguments = calls[0]["function"]["name"], "".join(c["function"].get("arguments", "") for c in calls)
        reason = answer.events[-2]["choices"][0]["finish_reason"]
    else:
        (call,) = answer.json["choices"][0]["message"]["tool_calls"]
        name, arguments = call["function"]["name"], call["function"]["arguments"]
        reason = answer.json["choices"][0]["finish_reason"]
    assert (name, json.loads(arguments), reason) == ("weather", {"city": "Rome"}, "tool_calls")
    asked = json.dumps(sai.calls[-1].body)
    assert ("You have these tools" in asked) == (road != "prompt"), "nothing is said twice"
    assert ("tools" in sai.calls[-1].body) == (road == "prompt")


@each_road
async def test_a_tools_result_goes_back(proxy: Proxy, sai: Simulator, road: str) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    ]
    assert (await proxy.post({"model": NAMES[road], "messages": messages, "tools": [WEATHER]})).status == 200
    last = sai.calls[-1].body["inputs"]["user"] if road == "template" else sai.calls[-1].body["messages"][-1]
    assert "sunny" in json.dumps(last)
    assert ("tool_call_id" in last) == (road == "prompt")


@each_road
async def test_json_is_demanded_of_every_road(proxy: Proxy, road: str) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": True}}
    good = await ask(proxy, road, '[[answer="Here: {\\"a\\": 1}"]]', response_format=form)
    assert json.loads(good.content) == {"a": 1}
    bad = await ask(proxy, road, '[[answer="{\\"b\\": 1}"]]', response_format=form)
    assert (bad.status, bad.error["code"]) == (502, "output_mismatch")


@each_road
async def test_images_are_read_or_refused_with_the_model_that_reads_them(
    proxy: Proxy, sai: Simulator, road: str
) -> None:
    content = [{"type": "text", "text": "[[answer=a cat]]"}, IMAGE]
    answer = await proxy.post({"model": NAMES[road], "messages": [{"role": "user", "content": content}]})
    if road == "prompt":
        assert answer.content == "a cat"
        assert sai.calls[-1].body["messages"][0]["content"] == content
        return
    assert (answer.status, answer.error["param"]) == (400, "messages[0].content[1].image_url")
    assert f"not supported by '{NAMES[road]}'" in answer.error["message"]
    assert "ask 'nativo', which reads images" in answer.error["message"]
    assert sai.calls == []


async def test_an_image_of_a_tools_is_shown_to_a_model_that_reads_them(proxy: Proxy, sai: Simulator) -> None:
    """Codex's `view_image`; for all other models it becomes a note."""
    output = [{"type": "input_image", "image_url": "data:image/png;base64,AA", "detail": "high"}]
    items = [
        {"role": "user", "content": "Look."},
        {"type": "function_call", "call_id": "c1", "name": "view", "arguments": "{}"},
        {"type": "function_call", "call_id": "c2", "name": "view", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": output},
        {"type": "function_call_output", "call_id": "c2", "output": "nothing"},
    ]
    for road in MODELS:
        answer = await proxy.post({"model": NAMES[road], "input": items}, path="/v1/responses")
        assert answer.status == 200
    messages = sai.calls[-1].body["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "tool", "user"]
    assert messages[-1]["content"][1]["image_url"] == {"url": "data:image/png;base64,AA", "detail": "high"}


@pytest.mark.parametrize(
    ("road", "passed"), [("template", {}), ("chat", {}), ("stream", {"temperature": 0.5}), ("prompt", {"seed": 7})]
)
async def test_sampling_goes_where_it_is_taken(
    proxy: Proxy, sai: Simulator, road: str, passed: dict[str, float]
) -> None:
    answer = await ask(proxy, road, "[[chars=500]]", temperature=0.5, seed=7, max_tokens=20)
    body = sai.calls[-1].body
    where = body.get("parameters", body)
    for name, value in {"temperature": 0.5, "seed": 7}.items():
        assert where.get(name) == (value if road == "prompt" or name in passed else None)
    counts = where.get("max_tokens", where.get("maxTokens"))
    assert counts == (20 if road in ("stream", "prompt") else None)
    assert len(answer.content) == (500 if road in ("stream", "prompt") else 80), "who counts tokens cuts by itself"


async def test_a_text_that_sai_has_cut_says_so(proxy: Proxy) -> None:
    for road, directive in (("chat", "expired"), ("stream", "expired"), ("prompt", "finish=length")):
        answer = await ask(proxy, road, f"[[answer=x]][[{directive}]]")
        assert answer.json["choices"][0]["finish_reason"] == "length"
        body = {"model": NAMES[road], "input": f"[[answer=x]][[{directive}]]"}
        response = (await proxy.post(body, path="/v1/responses")).json
        assert response["incomplete_details"] == {"reason": "max_output_tokens"}


async def test_a_call_that_sai_has_cut_is_never_made(proxy: Proxy) -> None:
    text = '[[call=weather]][[arguments={"city":"Ro]][[finish=length]]'
    answer = await ask(proxy, "prompt", text, tools=[WEATHER])
    assert (answer.status, answer.error["code"]) == (400, "tool_call_cut")


async def test_a_call_that_was_demanded_and_not_made_is_asked_for_once_more(proxy: Proxy, sai: Simulator) -> None:
    answer = await ask(proxy, "prompt", "[[answer=no]]", tools=[WEATHER], tool_choice="required")
    assert (answer.status, answer.error["code"]) == (502, "tool_choice_disobeyed")
    assert len(sai.calls) == 2
    assert sai.calls[0].body["tool_choice"] == {"type": "function", "function": {"name": "weather"}}


@pytest.mark.parametrize("directive", ["deltas", "completed", "document", "incomplete"])
async def test_every_form_of_a_live_stream_is_read(proxy: Proxy, directive: str) -> None:
    answer = await ask(proxy, "stream", f"[[answer=uno dos tres]][[{directive}]]", stream=True)
    assert content_of(answer.events) == "uno dos tres"
    assert answer.events[-1] == "[DONE]"


@pytest.mark.parametrize(("directive", "code"), [("unclosed", "upstream_protocol"), ("failed", "upstream_error")])
async def test_a_live_stream_without_a_good_end_is_no_answer(proxy: Proxy, directive: str, code: str) -> None:
    answer = await ask(proxy, "stream", f"[[answer=uno dos tres]][[{directive}]]", stream=True)
    assert answer.events[-1]["error"]["code"] == code


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def played_sai(answer: Handler) -> AsyncIterator[str]:
    """A SAI that answers as it is told to, whatever it is asked."""
    app = web.Application()
    app.router.add_post("/{path:.*}", answer)
    server = TestServer(app)
    await server.start_server()
    try:
        yield str(server.make_url("")).rstrip("/")
    finally:
        await server.close()


def halting_stream(release: asyncio.Event) -> Handler:
    """Sends a first delta, and the rest when it is told to."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b'event: outputtextdelta\ndata: {"delta":"first"}\n\n')
        await release.wait()
        await response.write(b'event: outputtextdelta\ndata: {"delta":" last"}\n\nevent: complete\ndata: {}\n\n')
        return response

    return answer


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/completions"])
async def test_a_live_streams_first_delta_arrives_while_sai_still_writes(path: str) -> None:
    """By the order of events: SAI goes on only when the client has it."""
    release = asyncio.Event()
    asked: dict[str, Any] = {"messages": [{"role": "user", "content": "x"}], "input": "x", "prompt": "x"}
    fields = {"/v1/chat/completions": "messages", "/v1/responses": "input", "/v1/completions": "prompt"}
    body = {"model": "vivo", "stream": True, fields[path]: asked[fields[path]]}
    async with (
        played_sai(halting_stream(release)) as url,
        running_proxy(url, **ALL) as proxy,
        proxy.session.post(proxy.url + path, json=body) as response,
    ):
        seen = b""
        while b"first" not in seen:
            seen += await response.content.readany()
        release.set()
        assert b" last" in await response.content.read()


@pytest.mark.parametrize(
    ("road", "needed"),
    [("chat", "a SAI session cookie"), ("stream", "a SAI session cookie"), ("prompt", "a SAI API key")],
)
async def test_a_road_that_lets_no_credential_in_says_which_it_needs(
    start_proxy: StartProxy, sai: Simulator, road: str, needed: str
) -> None:
    proxy = await start_proxy(**ALL, **({"SAI_KEY": ""} if road == "prompt" else {"SAI_COOKIE": ""}))
    for stream in (False, True):
        answer = await ask(proxy, road, stream=stream)
        assert (answer.status, answer.error["code"]) == (401, "credential_kind")
        assert needed in answer.error["message"]
    assert sai.calls == []


@pytest.mark.parametrize(("road", "kind"), [("chat", "Cookie"), ("stream", "Cookie"), ("prompt", "X-Api-Key")])
async def test_the_chain_skips_what_a_road_does_not_take(proxy: Proxy, sai: Simulator, road: str, kind: str) -> None:
    await ask(proxy, road)
    names = {"Cookie", "X-Api-Key"} & set(sai.calls[-1].headers)
    assert names == {kind}
    headers = {"x-user-api-key": "user-Cookies=mine" if kind == "Cookie" else "mine-key"}
    await ask(proxy, road, headers=headers)
    assert "mine" in sai.calls[-1].headers[kind]


async def test_an_entry_may_let_another_credential_in(start_proxy: StartProxy, sai: Simulator) -> None:
    proxy = await start_proxy(SAI_MODELS="vivo=stream:m@key", SAI_COOKIE="")
    answer = await proxy.ask(model="vivo")
    assert sai.calls[-1].key is not None
    assert answer.status == 401, "the simulator takes cookies alone"


async def test_a_model_says_what_it_can(proxy: Proxy) -> None:
    listing = (await proxy.get("/v1/models")).json
    check_schema("models_list", listing)
    can = {model["id"]: model["capabilities"] for model in listing["data"]}
    assert {name: (c["road"], c["streaming"], c["tools"], c["images"]) for name, c in can.items()} == {
        "sai-model": ("template", "buffered", "emulated", False),
        "charla": ("chat", "buffered", "emulated", False),
        "vivo": ("stream", "live", "emulated", False),
        "nativo": ("prompt", "buffered", "native", True),
    }
    assert (await proxy.get("/v1/models/nativo")).json["capabilities"] == can["nativo"]
    assert can["vivo"]["context_length"] == 128_000


async def test_log_and_metrics_carry_the_road(proxy: Proxy, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    for road in MODELS:
        await ask(proxy, road)
    lines = request_lines(caplog, proxy)
    assert [(line["model"], line["road"]) for line in lines] == [(name, road) for road, name in NAMES.items()]
    metrics = (await proxy.get("/metrics")).text
    assert 'sai_proxy_models{model="vivo",road="stream"} 1.0' in metrics


async def test_without_a_template_none_is_needed() -> None:
    env = environment("http://sai", SAI_TEMPLATE_ID="", SAI_MODELS="vivo=stream:m,nativo=prompt:gpt-4o,c=chat:t")
    async with running_proxy("http://127.0.0.1:9", **{k: v for k, v in env.items() if k.startswith("SAI_M")}) as proxy:
        assert len((await proxy.get("/v1/models")).json["data"]) == 3


async def test_what_a_document_keeps_back_is_accounted_for(start_proxy: StartProxy) -> None:
    proxy = await start_proxy(**ALL, MAX_BUFFERED_BYTES="300000")
    for road in ("chat", "prompt"):
        answer = await ask(proxy, road, "[[chars=2000000]]", stream=True)
        error = answer.error if answer.status != 200 else answer.events[-1]["error"]
        assert error["code"] == "upstream_answer_too_long"
        assert proxy.app[ADMISSION].held == 0


@pytest.mark.parametrize("error", ["event: error\ndata: {}\n\n", ""], ids=["an error", "no end"])
async def test_what_came_before_a_failure_reaches_the_client_even_if_all_came_at_once(error: str) -> None:
    text = 'event: outputtextdelta\ndata: {"delta":"so far"}\n\n'

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(text=text + error, content_type="text/event-stream")

    async with played_sai(answer) as url, running_proxy(url, **ALL) as proxy:
        *chunks, last = (await ask(proxy, "stream", stream=True)).events
        assert content_of(chunks) == "so far"
        assert set(last) == {"error"}
        assert (await ask(proxy, "stream")).status == 502


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("road", "form"),
    [
        ("template", "refusal"),
        ("chat", "document"),
        ("stream", "document"),
        ("stream", "event"),
        ("prompt", "document"),
    ],
)
async def test_a_credential_that_sai_echoes_reaches_neither_log_nor_client(
    caplog: pytest.LogCaptureFixture, road: str, form: str, stream: bool
) -> None:
    secret = "sk-a-secret-that-nobody-sees"
    error = json.dumps({"error": {"message": f"the key {secret} is bad"}})

    async def answer(_: web.Request) -> web.StreamResponse:
        if form == "event":
            return web.Response(text=f"event: error\ndata: {error}\n\n", content_type="text/event-stream")
        return web.Response(text=error, content_type="application/json", status=500 if form == "refusal" else 200)

    caplog.set_level("DEBUG")
    models = ALL["SAI_MODELS"].replace("claude-sonnet-4-6", "claude-sonnet-4-6@both").replace("chat:t2", "chat:t2@both")
    async with played_sai(answer) as url, running_proxy(url, SAI_MODELS=models) as proxy:
        headers = {"Authorization": f"Bearer {secret}"}
        answered = await proxy.ask(model=NAMES[road], headers=headers, stream=stream)
    assert "error" in answered.text
    assert secret not in answered.text
    lines = request_lines(caplog, proxy)
    assert len(lines) == 1
    assert all(secret not in repr(fields_of(record)) for record in caplog.records)


async def test_what_a_client_does_not_read_is_accounted_for(start_proxy: StartProxy) -> None:
    """A document comes out whole: what the client has not taken of it is held still."""
    proxy = await start_proxy(**ALL)
    messages = [{"role": "user", "content": "[[chars=3000000]]"}]
    body = json.dumps({"model": "charla", "stream": True, "messages": messages})
    host, port = proxy.url.removeprefix("http://").split(":")
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)  # else the kernel would take all of it
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, (host, int(port)))
        reader, writer = await asyncio.open_connection(sock=client.dup(), limit=4096)
    try:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
        writer.write(f"{head}Authorization: Bearer k\r\nContent-Type: application/json\r\n\r\n{body}".encode())
        assert b"200" in await reader.readline()
        await reader.readuntil(b'"delta":{"content":"')
        assert proxy.app[ADMISSION].held > 2_900_000
    finally:
        writer.close()
    await until(lambda: proxy.app[ADMISSION].held == 0)
