import json
from typing import Any

import pytest

from sai_proxy.conversation.chat import ChatMessage, ChatRequest, Route
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
            ChatMessage("tool", ("[Tool Response - ID: call_1]\n42",)),
            ChatMessage("tool", ("[Tool Response - ID: f]\n",)),
            ChatMessage("user", ("",)),
        ),
    )
    assert request.conversations[0][2].text == "a\nb"


def test_past_tool_calls_are_kept_as_text() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "sum", "arguments": '{"a":1}'}}
    request = read({"model": "sai-model", "messages": [{"role": "assistant", "content": None, "tool_calls": [call]}]})
    assert json.loads(request.messages[0].text) == {"tool_calls": [call]}


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
        (chat(tools=[{"type": "function"}]), "unsupported_parameter", "tools"),
        (chat(tool_choice="required"), "unsupported_parameter", "tool_choice"),
        (chat(functions=[{}]), "unsupported_parameter", "functions"),
        (chat(response_format={"type": "json_object"}), "unsupported_parameter", "response_format"),
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
