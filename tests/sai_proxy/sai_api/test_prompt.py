import json
from typing import Any

import pytest

from sai_proxy import errors
from sai_proxy.conversation.chat import ChatMessage, Image, Usage
from sai_proxy.conversation.events import Gathering, ToolCall
from sai_proxy.conversation.offer import Tool, Toolset
from sai_proxy.sai_api.prompt import PromptRoad
from tests.sai_proxy.sai_api.road_tests import read, request, route_to, said, text_of

JSON = {"Content-Type": "application/json"}
WEATHER = Tool("weather", "Of a city.", {"type": "object", "properties": {"city": {"type": "string"}}}, strict=True)
PATCH = Tool("patch", "Changes.", None, "custom", grammar="  Its text has to fit this lark grammar:\nstart: X")
CALL = ToolCall("call_1", "weather", '{"city":"Rome"}')


def body(target: str = "gpt-4o", *conversation: ChatMessage, override: str | None = None, **fields: Any) -> Any:
    conversation = conversation or said(("user", "x"))
    asked = request(route_to("prompt", target, override), *conversation, **fields)
    return json.loads(PromptRoad().payload(conversation, asked, 0))


def answer(document: Any, custom: tuple[str, ...] = ()) -> Any:
    reader = PromptRoad().reader(JSON, custom)
    data = json.dumps(document).encode()
    gathering = Gathering()
    for event in read(reader, data[:5], data[5:]):
        gathering.add(event)
    return gathering.complete(reader.finish_reason or "stop"), reader


def completion(message: Any, reason: str = "stop", **more: Any) -> Any:
    return {"choices": [{"index": 0, "message": message, "finish_reason": reason}], **more}


def test_messages_are_as_they_are() -> None:
    asked = body(
        "gpt-4o",
        ChatMessage("system", ("s",)),
        ChatMessage("system", ("t",)),
        ChatMessage("user", ("look", "here"), images=(Image(1, "data:image/png;base64,AA", "low"),)),
        ChatMessage("assistant", ("",), (CALL, ToolCall("call_2", "patch", "+x", "custom"))),
        ChatMessage("tool", ("sunny",), answers=CALL),
    )
    assert asked["messages"] == [
        {"role": "system", "content": "s"},
        {"role": "system", "content": "t"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "look"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA", "detail": "low"}},
                {"type": "text", "text": "here"},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Rome"}'}},
                {"id": "call_2", "type": "function", "function": {"name": "patch", "arguments": '{"input": "+x"}'}},
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    ]
    assert (asked["model"], asked["stream"]) == ("gpt-4o", False)


@pytest.mark.parametrize(
    ("target", "override", "flat"),
    [
        ("gpt-4o", None, False),
        ("gpt-4.1", None, False),
        ("o3", None, False),
        ("grok-4", None, False),
        ("gpt-5.2-2025-12-11", None, True),
        ("gpt-5.2-emea", None, False),
        ("gpt-5.2", "nested", False),
        ("gpt-4o", "flat+both", True),
    ],
)
def test_tools_have_the_shape_that_the_model_takes(target: str, override: str | None, flat: bool) -> None:
    asked = body(target, override=override, toolset=Toolset((WEATHER, PATCH)))
    assert "functions" not in asked
    assert "tool_choice" not in asked
    for tool, name in zip(asked["tools"], ("weather", "patch"), strict=True):
        assert (("name" in tool), ("function" in tool)) == (flat, not flat)
        function = tool if flat else tool["function"]
        assert function["name"] == name
    weather, patch = (tool if flat else tool["function"] for tool in asked["tools"])
    assert weather["parameters"] == WEATHER.parameters
    assert weather["strict"] is True
    assert patch["parameters"]["required"] == ["input"]
    assert "lark" in patch["description"]


@pytest.mark.parametrize(("target", "override"), [("gemini-3-pro", None), ("gpt-4o", "text")])
def test_a_model_without_tools_gets_none_and_no_system_role(target: str, override: str | None) -> None:
    route = route_to("prompt", target, override)
    assert route.can.tools == "emulated"
    asked = body(target, *said(("system", "s"), ("user", "x")), override=override, toolset=Toolset((WEATHER,)))
    assert "tools" not in asked
    assert asked["messages"] == [{"role": "user", "content": "s\nx"}]


def test_choices_bind() -> None:
    assert body(toolset=Toolset((WEATHER,), "required"))["tool_choice"] == {
        "type": "function",
        "function": {"name": "weather"},
    }
    assert body("gpt-5.2", toolset=Toolset((WEATHER,), "required"))["tool_choice"] == {
        "type": "function",
        "name": "weather",
    }
    assert body(toolset=Toolset((WEATHER, PATCH), "required"))["tool_choice"] == "required"
    assert body(toolset=Toolset((WEATHER,), parallel=False))["parallel_tool_calls"] is False


def test_sampling_is_passed_on() -> None:
    asked = body(sampling={"temperature": 0.1, "max_tokens": 7, "seed": 3, "top_p": 0.5})
    assert (asked["temperature"], asked["max_tokens"], asked["seed"]) == (0.1, 7, 3)
    assert "top_p" not in asked
    assert "temperature" not in body()


@pytest.mark.parametrize(
    "document",
    [
        completion({"role": "assistant", "content": "a b"}),
        completion({"content": [{"type": "text", "text": "a "}, {"type": "text", "text": "b"}]}),
        {"output": [{"type": "message", "content": [{"type": "output_text", "text": "a b"}]}]},
        {"output": [], "output_text": "a b"},
        {"output": "a b"},
        {"result": "a b"},
        {"Result": "a b"},
    ],
)
def test_every_shape_gives_its_text(document: Any) -> None:
    assert answer(document)[0].text == "a b"


ROME = '{"city":"Rome"}'
FUNCTION = {"name": "weather", "arguments": ROME}
CALLS: list[Any] = [
    completion({"content": None, "tool_calls": [{"id": "c1", "type": "function", "function": FUNCTION}]}, "tool_calls"),
    completion({"tool_calls": [{"id": "c1", "function": {"name": "weather", "arguments": {"city": "Rome"}}}]}),
    completion({"tool_calls": [{"call_id": "c1", **FUNCTION}]}),
    {"output": [{"type": "reasoning"}, {"type": "function_call", "id": "fc_9", "call_id": "c1", **FUNCTION}]},
]


@pytest.mark.parametrize("document", CALLS)
def test_every_shape_gives_its_calls(document: Any) -> None:
    said_, _ = answer(document)
    (call,) = said_.calls
    assert (call.id, call.name, json.loads(call.arguments), call.kind) == (
        "c1",
        "weather",
        {"city": "Rome"},
        "function",
    )
    assert said_.text == ""


def test_a_call_of_a_tool_of_free_text_is_one_again() -> None:
    call = {"id": "c1", "function": {"name": "patch", "arguments": '{"input":"+x\\n"}'}}
    (made,) = answer(completion({"tool_calls": [call]}), ("patch",))[0].calls
    assert (made.kind, made.arguments) == ("custom", "+x\n")


@pytest.mark.parametrize(("arguments", "text"), [(None, "{}"), ("", "{}"), ("null", "{}"), ({}, "{}"), ([1], "[1]")])
def test_arguments_are_text(arguments: Any, text: str) -> None:
    call = {"id": "c1", "function": {"name": "weather", "arguments": arguments}}
    assert answer(completion({"tool_calls": [call]}))[0].calls[0].arguments == text


def test_a_tool_of_free_text_may_get_none() -> None:
    call = {"id": "c1", "function": {"name": "patch", "arguments": '{"input":""}'}}
    assert answer(completion({"tool_calls": [call]}), ("patch",))[0].calls[0].arguments == ""


def test_what_stands_where_the_text_should_be_is_found() -> None:
    assert answer(completion({"content": "", "refusal": "I will not."}))[0].text == "I will not."
    assert answer({"choices": [{"text": "plain", "finish_reason": "stop"}]})[0].text == "plain"
    assert answer(completion({"function_call": FUNCTION}))[0].calls[0].name == "weather"


def test_a_name_of_a_model_that_cannot_be_a_header_is_none() -> None:
    for name in ("a\nb", "x" * 70_000, "ñ"):
        assert answer(completion({"content": "a"}, model=name))[1].model is None


def test_what_it_says_beside_the_text_is_read() -> None:
    _, reader = answer(
        completion({"content": "a"}, "length", model="gpt-4o-x", usage={"prompt_tokens": 3, "completion_tokens": 4})
    )
    assert (reader.finish_reason, reader.usage, reader.model) == ("length", Usage(3, 4), "gpt-4o-x")
    _, reader = answer({"output_text": "a", "usage": {"input_tokens": 3, "output_tokens": 4}, "status": "completed"})
    assert (reader.finish_reason, reader.usage) == (None, Usage(3, 4))
    _, reader = answer({"output": [], "output_text": "a", "usage": "much", "status": "incomplete"})
    assert (reader.finish_reason, reader.usage) == ("length", Usage())
    assert answer(completion({"content": "a"}, "content_filter"))[1].finish_reason == "content_filter"
    assert answer(completion({"content": "a"}, "tool_calls"))[1].finish_reason is None


def test_a_call_that_was_cut_is_never_made() -> None:
    call = {"id": "c1", "function": {"name": "weather", "arguments": '{"city":"Ro'}}
    with pytest.raises(errors.ToolCallCut):
        answer(completion({"tool_calls": [call]}, "length"))
    (made,) = answer(completion({"tool_calls": [call]}, "tool_calls"))[0].calls
    assert made.arguments == '{"city":"Ro', "what the model wrote is the client's business"


@pytest.mark.parametrize(
    ("document", "kind"),
    [
        ({"choices": []}, errors.UpstreamProtocolError),
        ({"choices": [3]}, errors.UpstreamProtocolError),
        ({"choices": [{"message": {"tool_calls": [{}]}}]}, errors.UpstreamProtocolError),
        ({"choices": [{"message": {"tool_calls": 3}}]}, errors.UpstreamProtocolError),
        ({"output": [3]}, errors.UpstreamProtocolError),
        ({"id": "x"}, errors.UpstreamProtocolError),
        ({"choices": [{}] * 500_000}, errors.UpstreamProtocolError),
        (completion({"tool_calls": [{"name": "f"}] * 300}), errors.UpstreamProtocolError),
        ({"status": "failed", "output": []}, errors.UpstreamError),
        ({"error": {"message": "no"}}, errors.UpstreamError),
    ],
)
def test_what_is_no_answer_is_a_failure(document: Any, kind: type[errors.ProxyError]) -> None:
    with pytest.raises(kind) as caught:
        answer(document)
    assert type(caught.value) is kind


def test_bare_text_is_the_text() -> None:
    assert text_of(read(PromptRoad().reader({"Content-Type": "text/plain"}, ()), b"a b")) == "a b"
