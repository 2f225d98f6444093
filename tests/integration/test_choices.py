"""Stop strings, limits and several choices, whole and streamed, over real sockets."""

import asyncio
import json
from typing import Any

import pytest

from sai_proxy.simulator import Simulator
from tests.conftest import StartProxy
from tests.support import SYSTEM_COOKIE, Proxy, check_schema, content_of, until


def texts_of(events: list[Any], count: int) -> list[str]:
    """The text of each choice in a stream's events, of either endpoint."""
    texts = [""] * count
    for event in events:
        for choice in event["choices"] if event != "[DONE]" else ():
            texts[choice["index"]] += choice["delta"].get("content", "") if "delta" in choice else choice["text"]
    return texts


async def finished(proxy: Proxy, text: str, **fields: Any) -> tuple[str, str]:
    """Text and finish reason, the same whole and streamed."""
    whole = await proxy.ask(text, **fields)
    *chunks, done = (await proxy.ask(text, stream=True, **fields)).events
    assert done == "[DONE]"
    choice = whole.json["choices"][0]
    assert content_of(chunks) == whole.content
    assert chunks[-1]["choices"][0]["finish_reason"] == choice["finish_reason"]
    return whole.content, choice["finish_reason"]


@pytest.mark.parametrize("how", ["", "[[split=1]]", "[[split=3]]"])
@pytest.mark.parametrize(
    ("stop", "expected"),
    [
        ("STOP", ("one two ", "stop")),
        (["nowhere", "two"], ("one ", "stop")),
        ("nowhere", ("one two STOP three", "stop")),
        (["three!"], ("one two STOP three", "stop")),
    ],
)
async def test_an_answer_ends_before_a_stop_string(
    proxy: Proxy, how: str, stop: Any, expected: tuple[str, str]
) -> None:
    assert await finished(proxy, f"[[answer=one two STOP three]]{how}", stop=stop) == expected


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("how", ["", "[[split=1]]", "[[split=7]]"])
async def test_an_answer_ends_at_four_characters_a_token(proxy: Proxy, how: str, name: str) -> None:
    question = f"[[answer={json.dumps('ñandú😀😀😀😀')}]]{how}"
    assert await finished(proxy, question, **{name: 2}) == ("ñandú😀😀😀", "length")
    assert await finished(proxy, question, **{name: 3}) == ("ñandú😀😀😀😀", "stop")


async def test_max_completion_tokens_wins(proxy: Proxy) -> None:
    assert (await proxy.ask("[[chars=99]]", max_tokens=9, max_completion_tokens=1)).content == "El v"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("limit", [{"stop": "EF"}, {"max_tokens": 1}])
async def test_a_cut_ends_the_call_to_sai(sai: Simulator, proxy: Proxy, limit: dict[str, Any], stream: bool) -> None:
    answer = await proxy.ask("[[answer=ABCDEFGH]][[split=2]][[delay=0.01]][[stall=3]]", stream=stream, **limit)
    assert answer.status == 200
    await asyncio.wait_for(sai.calls[0].ended.wait(), 1)
    assert not sai.calls[0].completed


async def test_a_cut_choice_ends_its_call_though_another_goes_on(sai: Simulator, proxy: Proxy) -> None:
    prompts = ["[[answer=abSTOPxy]][[split=2]][[delay=0.01]][[stall=3]]", "[[pause=forever]]"]
    asked = asyncio.ensure_future(complete(proxy, prompts, stop="STOP", stream=True))
    await until(lambda: len(sai.calls) == 2)
    cut = next(call for call in sai.calls if "STOP" in call.body["inputs"]["user"])
    await asyncio.wait_for(cut.ended.wait(), 2)
    assert not asked.done()
    asked.cancel()


async def test_only_what_could_become_a_stop_string_is_held_back(proxy: Proxy) -> None:
    """SAI stops for good in the middle of what might become one; all that is certain is out."""
    async with proxy.session.post(
        f"{proxy.url}/v1/chat/completions",
        json={
            "model": "sai-model",
            "stream": True,
            "stop": "<end>",
            "messages": [{"role": "user", "content": "[[answer=ab<enough<e>]][[split=1]][[delay=0.01]][[stall=11]]"}],
        },
    ) as response:
        text = ""
        while not text.endswith("ab<enough"):
            line = (await response.content.readline()).decode()
            if line.startswith("data: "):
                text += json.loads(line.removeprefix("data: "))["choices"][0]["delta"].get("content", "")


async def test_usage_of_a_cut_answer_counts_what_the_client_got(proxy: Proxy) -> None:
    usage = (await proxy.ask("[[chars=400]][[usage=7,100]]", max_tokens=10)).json["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (7, 10)


# Several choices


async def test_several_choices_are_as_many_calls_at_once(sai: Simulator, proxy: Proxy) -> None:
    asked = asyncio.ensure_future(proxy.ask("[[answer=abc]][[usage=10,5]][[silence=0.3]]", n=8))
    await until(lambda: len(sai.calls) == 8)
    assert not asked.done()
    body = (await asked).json
    check_schema("chat_completion", body)
    assert [(c["index"], c["message"]["content"], c["finish_reason"]) for c in body["choices"]] == [
        (index, "abc", "stop") for index in range(8)
    ]
    assert (body["usage"]["prompt_tokens"], body["usage"]["completion_tokens"]) == (80, 40)
    assert len(sai.calls) == 8


async def test_choices_are_interleaved_in_a_stream(proxy: Proxy) -> None:
    answer = await proxy.ask(
        "[[answer=abcdef]][[split=1]][[delay=0.02]]", n=3, stream=True, stream_options={"include_usage": True}
    )
    *chunks, usage, done = answer.events
    assert done == "[DONE]"
    assert texts_of(chunks, 3) == ["abcdef"] * 3
    for chunk in chunks:
        check_schema("chat_completion_chunk", chunk)
    content = [c["choices"][0]["index"] for c in chunks if c["choices"][0]["delta"].get("content")]
    assert content != sorted(content), "each at its own pace, not one after the other"
    assert [c["choices"][0]["delta"].get("role") for c in chunks[:3]] == ["assistant"] * 3
    assert sorted(c["choices"][0]["index"] for c in chunks if c["choices"][0]["finish_reason"]) == [0, 1, 2]
    assert usage["usage"]["prompt_tokens"] == 51


@pytest.mark.parametrize("stream", [False, True])
async def test_one_that_fails_fails_the_request(sai: Simulator, start_proxy: StartProxy, stream: bool) -> None:
    proxy = await start_proxy(SAI_KEY="limited-after-2", SAI_COOKIE="")
    answer = await proxy.ask("[[pause=forever]]", n=3, stream=stream)
    assert (answer.status, answer.error["code"]) == (429, "rate_limit_exceeded")
    for call in sai.calls:
        await asyncio.wait_for(call.ended.wait(), 1)


async def test_one_that_breaks_off_ends_the_stream_with_an_error(sai: Simulator, proxy: Proxy) -> None:
    question = "[[answer=abcdef]][[split=1]][[delay=0.02]][[reset=middle]]"
    *chunks, last = (await proxy.ask(question, n=2, stream=True)).events
    assert last["error"]["code"] == "upstream_protocol"
    assert all(chunk["choices"][0]["finish_reason"] is None for chunk in chunks)


async def test_each_choice_falls_back_by_itself(sai: Simulator, start_proxy: StartProxy) -> None:
    proxy = await start_proxy(SAI_KEY="limited-after-1")
    assert len((await proxy.ask(n=2)).json["choices"]) == 2
    assert [call.cookie for call in sai.calls].count(SYSTEM_COOKIE) == 1


async def test_a_client_that_leaves_ends_all_calls(sai: Simulator, proxy: Proxy) -> None:
    for stream in (False, True):
        sai.calls.clear()
        request = asyncio.ensure_future(proxy.ask("[[pieces=4]][[stall=2]]", n=4, stream=stream))
        await until(lambda: len(sai.calls) == 4)
        request.cancel()
        for call in sai.calls:
            await asyncio.wait_for(call.ended.wait(), 1)


# Legacy completions


async def complete(proxy: Proxy, prompt: Any, *, path: str = "/v1/completions", **fields: Any) -> Any:
    return await proxy.post({"model": "sai-model", "prompt": prompt, **fields}, path=path)


@pytest.mark.parametrize("path", ["/v1/completions", "/completions"])
async def test_a_completion_has_openais_shape(sai: Simulator, proxy: Proxy, path: str) -> None:
    answer = await complete(proxy, "[[answer=done]][[usage=3,4]]", path=path)
    body = answer.json
    check_schema("completion", body)
    assert body["id"].startswith("cmpl-")
    assert body["choices"] == [{"index": 0, "text": "done", "logprobs": None, "finish_reason": "stop"}]
    assert body["usage"]["total_tokens"] == 7
    assert sai.calls[0].body["inputs"]["user"] == "[[answer=done]][[usage=3,4]]"


async def test_a_completion_is_streamed(proxy: Proxy) -> None:
    answer = await complete(proxy, "[[answer=abcd]][[split=1]]", stream=True, stream_options={"include_usage": True})
    *chunks, usage, done = answer.events
    assert done == "[DONE]"
    assert texts_of(chunks, 1) == ["abcd"]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    for chunk in (*chunks, usage):
        assert chunk["object"] == "text_completion"
        check_schema("completion_chunk", chunk)
    assert usage["choices"] == []


async def test_several_prompts_are_choices_in_order(sai: Simulator, proxy: Proxy) -> None:
    prompts = ["[[answer=slow]][[silence=0.2]]", "[[answer=fast]]"]
    body = (await complete(proxy, prompts)).json
    assert [choice["text"] for choice in body["choices"]] == ["slow", "fast"]
    *chunks, _ = (await complete(proxy, prompts, stream=True)).events
    assert texts_of(chunks, 2) == ["slow", "fast"]
    assert len(sai.calls) == 4


async def test_echo_puts_the_prompt_before_the_text(proxy: Proxy) -> None:
    prompt = "[[answer=abcdefgh]]"
    body = (await complete(proxy, prompt, echo=True, max_tokens=1)).json
    assert body["choices"][0] == {"index": 0, "text": prompt + "abcd", "logprobs": None, "finish_reason": "length"}
    *chunks, _ = (await complete(proxy, prompt, echo=True, stream=True)).events
    assert texts_of(chunks, 1) == [prompt + "abcdefgh"]


async def test_a_suffix_reaches_sai(sai: Simulator, proxy: Proxy) -> None:
    await complete(proxy, "before", suffix="after")
    assert sai.calls[0].body["inputs"]["user"] == "<prefix>before</prefix><suffix>after</suffix>"


async def test_completions_have_the_guard_auth_and_errors_of_chat(sai: Simulator, start_proxy: StartProxy) -> None:
    proxy = await start_proxy(CONTEXT_LIMIT_TOKENS="10", CONTEXT_OVERFLOW="error", ACCESS_TOKENS="token")
    token = {"Authorization": "Bearer token"}
    assert (await complete(proxy, "x")).status == 401
    body = {"model": "sai-model", "prompt": "x" * 41}
    answer = await proxy.post(body, path="/v1/completions", headers=token)
    assert (answer.status, answer.error["param"]) == (400, "prompt")
    assert sai.calls == []
    body["prompt"] = "[[overflow]]"
    answer = await proxy.post(body, path="/v1/completions", headers=token)
    assert (answer.error["code"], answer.error["param"]) == ("context_length_exceeded", "prompt")


async def test_an_overflow_is_a_completion_too(start_proxy: StartProxy) -> None:
    proxy = await start_proxy(CONTEXT_LIMIT_TOKENS="10")
    body = (await complete(proxy, "x" * 41)).json
    assert body["choices"][0]["finish_reason"] == "length"
    assert body["choices"][0]["text"].startswith("The context is too long")
    check_schema("completion", body)
