import json
from typing import Any

import pytest

from sai_proxy.conversation.chat import ChatMessage, ChatRequest, Route
from sai_proxy.conversation.events import ToolCall
from sai_proxy.errors import InvalidRequest, ModelNotFound, ProxyError
from sai_proxy.errors.table import describe
from sai_proxy.openai_api.chat_request import (
    ChatCompletionRequest,
    decode_chat_request,
    read_chat_request,
)
from tests.support import chat

ROUTES = {"sai-model": Route("t1"), "other": Route("t2", "gpt")}


def read(body: Any) -> ChatRequest:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_chat_request(decode_chat_request(data), ROUTES)


def failure(body: Any) -> ProxyError:
    with pytest.raises(ProxyError) as caught:
        read(body)
    return caught.value


CALL = {"id": "call_1", "type": "function", "function": {"name": "sum", "arguments": '{"a":1}'}}
SUM = ToolCall("call_1", "sum", '{"a":1}')
GRAMMAR = {"type": "grammar", "syntax": "lark", "definition": "start: x"}
NO_SCHEMA = {"type": 7}
DEEP: dict[str, Any] = {}
for _ in range(40):
    DEEP = {"properties": {"x": DEEP}}


def test_messages_of_every_role_are_read() -> None:
    request = read(
        {
            "model": "other",
            "messages": [
                {"role": "system", "content": "s"},
                {"role": "developer", "content": [{"type": "text", "text": "d"}]},
                {
                    "role": "user",
                    "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
                    "name": "n",
                },
                {"role": "assistant", "content": None},
                {"role": "assistant", "content": []},
                {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
                {"role": "assistant", "content": "text", "refusal": "no"},
                {"role": "assistant", "content": None, "tool_calls": [CALL]},
                {"role": "tool", "content": "42", "tool_call_id": "call_1"},
                {"role": "function", "name": "f", "content": None},
                {"role": "user", "content": ""},
            ],
        }
    )
    assert request.route == Route("t2", "gpt")
    assert request.conversations == (
        (
            ChatMessage("system", ("s",)),
            ChatMessage("system", ("d",)),
            ChatMessage("user", ("a", "b")),
            ChatMessage("assistant", ("",)),
            ChatMessage("assistant", ("",)),
            ChatMessage("assistant", ("no",)),
            ChatMessage("assistant", ("text", "no")),
            ChatMessage("assistant", ("",), calls=(SUM,)),
            ChatMessage("tool", ("42",), answers=SUM),
            ChatMessage("tool", ("",), answers=ToolCall("", "f", "")),
            ChatMessage("user", ("",)),
        ),
    )
    assert request.conversations[0][2].text == "a\nb"


def test_past_calls_of_every_kind_are_read() -> None:
    custom = {"id": "call_2", "type": "custom", "custom": {"name": "patch", "input": "+x"}}
    messages = [
        {"role": "assistant", "content": [], "tool_calls": [CALL, custom]},
        {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": "done"}]},
        {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "ok"},
    ]
    request = read({"model": "sai-model", "messages": messages})
    patch = ToolCall("call_2", "patch", "+x", "custom")
    assert request.messages[0].calls == (SUM, patch)
    assert request.messages[1].answers == patch
    assert request.messages[3].answers == request.messages[2].calls[0]


def test_tools_of_every_form_are_offered() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    tools = [
        {"type": "function", "function": {"name": "nested", "parameters": schema, "strict": True}},
        {"type": "function", "name": "flat", "description": "d", "parameters": schema},
        {"name": "cursor", "input_schema": schema},
        {"type": "custom", "custom": {"name": "patch", "format": {"type": "text"}}},
        {
            "type": "custom",
            "name": "flat_patch",
            "format": {"type": "grammar", "syntax": "lark", "definition": "start: x"},
        },
    ]
    toolset = read(chat(tools=tools)).toolset
    assert toolset is not None
    assert [(tool.name, tool.kind, tool.parameters, tool.strict) for tool in toolset.offered] == [
        ("nested", "function", schema, True),
        ("flat", "function", schema, False),
        ("cursor", "function", schema, False),
        ("patch", "custom", None, False),
        ("flat_patch", "custom", None, False),
    ]
    assert "start: x" in toolset.offered[4].grammar
    assert toolset.parallel


@pytest.mark.parametrize(
    ("fields", "offered", "demand"),
    [
        ({}, ["a", "b"], "auto"),
        ({"tool_choice": "required"}, ["a", "b"], "required"),
        ({"tool_choice": {"type": "function", "function": {"name": "b"}}}, ["b"], "required"),
        ({"tool_choice": {"type": "function", "name": "b"}}, ["b"], "required"),
        (
            {
                "tool_choice": {
                    "type": "allowed_tools",
                    "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "a"}}]},
                }
            },
            ["a"],
            "required",
        ),
        (
            {"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "a"}]}},
            ["a"],
            "auto",
        ),
        ({"tool_choice": "none"}, None, None),
    ],
)
def test_tool_choice_binds(fields: dict[str, Any], offered: list[str] | None, demand: str | None) -> None:
    tools = [{"type": "function", "function": {"name": name}} for name in "ab"]
    toolset = read(chat(tools=tools, **fields)).toolset
    if offered is None:
        assert toolset is None
    else:
        assert toolset is not None
        assert ([tool.name for tool in toolset.offered], toolset.demand) == (offered, demand)


def test_deprecated_functions_are_tools_of_an_older_form() -> None:
    toolset = read(chat(functions=[{"name": "f"}], function_call={"name": "f"})).toolset
    assert toolset is not None
    assert (toolset.deprecated, toolset.demand, toolset.parallel) == (True, "required", False)


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        (b"", None, None),
        (b"{", None, None),
        (b"nope", None, None),
        (b'{"model": "sai-model", "messages": [{"role": "user", "content": "\xff"}]}', None, None),
        (b'{"x":' + b"[" * 100_000, None, None),
        (b'{"model": "sai-model", "messages": [{"role": "user", "content": NaN}]}', None, None),
        ([], "invalid_type", None),
        ({"messages": [{"role": "user", "content": "x"}]}, "missing_required_parameter", "model"),
        ({"model": None, "messages": []}, "invalid_type", "model"),
        ({"model": "sai-model"}, "missing_required_parameter", "messages"),
        ({"model": "sai-model", "messages": []}, "empty_array", "messages"),
        ({"model": "sai-model", "messages": "hi"}, "invalid_type", "messages"),
        ({"model": "sai-model", "messages": [7]}, "invalid_type", "messages[0]"),
        ({"model": "sai-model", "messages": [{"content": "x"}]}, "missing_required_parameter", "messages[0].role"),
        ({"model": "sai-model", "messages": [{"role": "boss", "content": "x"}]}, "invalid_value", "messages[0].role"),
        ({"model": "sai-model", "messages": [{"role": "user"}]}, "missing_required_parameter", "messages[0].content"),
        (
            {"model": "sai-model", "messages": [{"role": "user", "content": None}]},
            "invalid_type",
            "messages[0].content",
        ),
        ({"model": "sai-model", "messages": [{"role": "user", "content": []}]}, "invalid_type", "messages[0].content"),
        (
            {
                "model": "sai-model",
                "messages": [{"role": "user", "content": "x"}] * 2 + [{"role": "user", "content": 3}],
            },
            "invalid_type",
            "messages[2].content",
        ),
        (
            {"model": "sai-model", "messages": [{"role": "user", "content": [{"type": "text", "text": 1}]}]},
            "invalid_type",
            "messages[0].content[0].text",
        ),
        (
            {"model": "sai-model", "messages": [{"role": "user", "content": [{"type": "video"}]}]},
            "invalid_value",
            "messages[0].content[0].type",
        ),
        (
            {"model": "sai-model", "messages": [{"role": "tool", "content": "x"}]},
            "missing_required_parameter",
            "messages[0].tool_call_id",
        ),
        (chat(temperature="hot"), "invalid_type", "temperature"),
        (chat(temperature=3), "invalid_value", "temperature"),
        (chat(stream="yes"), "invalid_type", "stream"),
        (chat(n=0), "invalid_value", "n"),
        (
            chat(litellm_params={"metadata": {"user_api_key": 7}}),
            "invalid_type",
            "litellm_params.metadata.user_api_key",
        ),
        (chat(logprobs=True), "unsupported_parameter", "logprobs"),
        (chat(top_logprobs=2), "unsupported_parameter", "top_logprobs"),
        (chat(logit_bias={"50256": -100}), "unsupported_parameter", "logit_bias"),
        (chat(audio={"voice": "x"}), "unsupported_parameter", "audio"),
        (chat(modalities=["text", "audio"]), "unsupported_parameter", "modalities"),
        (chat(web_search_options={}), "unsupported_parameter", "web_search_options"),
        (chat(tools="x"), "invalid_type", "tools"),
        (chat(tools=[{"type": "function"}]), "missing_required_parameter", "tools[0].function"),
        (chat(tools=[{"type": "function", "function": {}}]), "missing_required_parameter", "tools[0].function.name"),
        (chat(tools=[{"type": "function", "function": {"name": 7}}]), "invalid_type", "tools[0].function.name"),
        (chat(tools=[{"type": "function", "function": {"name": "a b"}}]), "invalid_value", "tools[0].function.name"),
        (chat(tools=[{"type": "web_search"}]), "unsupported_value", "tools[0].type"),
        (chat(tools=[{"name": f"t{i}"} for i in range(257)]), "array_above_max_length", "tools"),
        (chat(tools=[{"name": "t", "description": "x" * 600_000}]), "invalid_value", "tools"),
        (chat(tools=[{"name": "t", "parameters": DEEP}]), "invalid_value", "tools[0].parameters"),
        (
            chat(tools=[{"name": "t", "strict": True, "parameters": NO_SCHEMA}]),
            "invalid_value",
            "tools[0].parameters",
        ),
        (chat(tool_choice="required"), "invalid_value", "tool_choice"),
        (chat(tool_choice="maybe"), "unsupported_value", "tool_choice"),
        (chat(tools=[{"name": "t"}], tool_choice={"type": "function", "name": "u"}), "invalid_value", "tool_choice"),
        (chat(tools=[{"name": "t"}], tool_choice={"type": "function"}), "invalid_type", "tool_choice"),
        (chat(functions=[{}]), "missing_required_parameter", "functions[0].function.name"),
        (chat(response_format={"type": "xml"}), "unsupported_value", "response_format.type"),
        (chat(response_format={"type": "json_schema"}), "missing_required_parameter", "response_format.json_schema"),
        (
            chat(response_format={"type": "json_schema", "json_schema": {"schema": {"$ref": "http://x/y"}}}),
            "invalid_value",
            "response_format.json_schema.schema",
        ),
        (
            {"model": "sai-model", "messages": [{"role": "tool", "content": "x", "tool_call_id": "call_9"}]},
            "invalid_value",
            "messages[0].tool_call_id",
        ),
    ],
)
def test_a_fault_is_named_with_its_place(body: Any, code: str | None, param: str | None) -> None:
    error = failure(body)
    assert isinstance(error, InvalidRequest)
    form = describe(error, "en")
    assert (form.status, form.type, form.code, form.param) == (400, "invalid_request_error", code, param)
    assert describe(error, "es").message != form.message
    if param:
        assert param in form.message


@pytest.mark.parametrize(
    ("part", "field"),
    [
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}, "image_url"),
        ({"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}, "input_audio"),
        ({"type": "file", "file": {"file_id": "f"}}, "file"),
    ],
)
def test_a_part_that_is_not_text_is_refused_at_its_path(part: dict[str, Any], field: str) -> None:
    text = {"type": "text", "text": "x"}
    form = describe(failure({"model": "sai-model", "messages": [{"role": "user", "content": [text, part]}]}), "en")
    assert (form.status, form.code, form.param) == (400, "invalid_value", f"messages[0].content[1].{field}")
    assert "not supported" in form.message


def test_an_unknown_model_is_named_with_those_that_exist() -> None:
    error = failure(chat(model="gpt-9"))
    assert isinstance(error, ModelNotFound)
    form = describe(error, "en")
    assert (form.status, form.code) == (404, "model_not_found")
    assert "gpt-9" in form.message
    assert "sai-model, other" in form.message


def test_null_counts_as_absent_for_every_optional_field() -> None:
    optional = [name for name in ChatCompletionRequest.__struct_fields__ if name not in ("model", "messages")]
    assert read({**chat(), **dict.fromkeys(optional)}) == read(chat())


def test_fields_that_ask_for_nothing_are_accepted() -> None:
    request = read(
        chat(
            tools=[],
            functions=[],
            logprobs=False,
            top_logprobs=0,
            logit_bias={},
            tool_choice="auto",
            function_call="none",
            modalities=["text"],
            response_format={"type": "text"},
            n=1,
        )
    )
    assert request.ignored == ()


def test_unknown_fields_are_tolerated_and_known_ones_without_a_place_reported() -> None:
    request = read(chat(top_k=5, temperature=1, user="me", seed=7, metadata={"any": ["thing"]}))
    assert set(request.ignored) == {"temperature", "user", "seed", "metadata"}


def test_a_byte_order_mark_is_no_fault() -> None:
    assert read(b"\xef\xbb\xbf" + json.dumps(chat("x")).encode()).messages[0].text == "x"


def test_a_nul_is_kept() -> None:
    assert read(chat("a\x00b")).messages[0].text == "a\x00b"
