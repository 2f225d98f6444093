import json
from typing import Any

import pytest

from sai_proxy.conversation.chat import ChatMessage, ChatRequest, Route
from sai_proxy.errors import InvalidRequest
from sai_proxy.errors.table import describe
from sai_proxy.openai_api.completion_request import FILL_IN, decode_completion_request, read_completion_request

ROUTES = {"sai-model": Route("t1")}


def read(**fields: Any) -> ChatRequest:
    body = json.dumps({"model": "sai-model", "prompt": "p", **fields}).encode()
    return read_completion_request(decode_completion_request(body), ROUTES)


def user(text: str) -> tuple[ChatMessage, ...]:
    return (ChatMessage("user", (text,)),)


def test_each_prompt_is_a_conversation() -> None:
    assert read().conversations == (user("p"),)
    several = read(prompt=["a", "b"], n=2, echo=True)
    assert several.conversations == (user("a"), user("b"))
    assert [several.echo_of(index) for index in range(several.choices)] == ["a", "a", "b", "b"]
    assert several.text_param == "prompt"


def test_a_suffix_makes_a_gap_to_fill() -> None:
    system, message = read(prompt="def f(", suffix="): pass").conversations[0]
    assert system == ChatMessage("system", (FILL_IN,))
    assert message.text == "<prefix>def f(</prefix><suffix>): pass</suffix>"
    assert read(suffix="").conversations == (user("p"),)


def test_limits_are_read() -> None:
    request = read(max_tokens=3, stop=["a", "b"], stream=True, temperature=0, best_of=1)
    assert (request.max_chars, request.stops, request.stream) == (12, ("a", "b"), True)
    assert request.ignored == ("temperature",)
    assert read().max_chars is None


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"prompt": []}, "empty_array", "prompt"),
        ({"prompt": [1, 2, 3]}, "unsupported_value", "prompt"),
        ({"prompt": [[1, 2], [3]]}, "unsupported_value", "prompt"),
        ({"prompt": ["a", None]}, "invalid_type", "prompt[1]"),
        ({"prompt": 7}, "invalid_type", "prompt"),
        ({"prompt": None}, "invalid_type", "prompt"),
        ({"prompt": ["a"] * 33}, "unsupported_value", "prompt"),
        ({"prompt": ["a"] * 5, "n": 8}, "unsupported_value", "prompt"),
        ({"n": 9}, "unsupported_value", "n"),
        ({"best_of": 2}, "unsupported_value", "best_of"),
        ({"logprobs": 1}, "unsupported_parameter", "logprobs"),
        ({"logit_bias": {"1": 1}}, "unsupported_parameter", "logit_bias"),
        ({"max_tokens": 0}, "invalid_value", "max_tokens"),
        ({"stop": ["a"] * 17}, "unsupported_value", "stop"),
        ({"stop": ""}, "invalid_value", "stop"),
        ({"stop": 7}, "invalid_type", "stop"),
    ],
)
def test_a_fault_is_named_with_its_place(fields: dict[str, Any], code: str, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(**fields)
    form = describe(caught.value, "en")
    assert (form.status, form.code, form.param) == (400, code, param)
