import json
from typing import Any

import pytest

from sai_proxy import errors
from sai_proxy.conversation.chat import ChatMessage
from sai_proxy.openai_api.responses_endpoint import ResponsesEndpoint
from sai_proxy.openai_api.tools import MAX_TOOLS_BYTES
from tests.sai_proxy.openai_api.responses import CALL, DIGITS, FUNCTION, MODELS, PATCH, messages, read, text, user

IMAGE = {"type": "input_image", "image_url": "data:image/png;base64,AA", "detail": "high"}
ECHOED = {
    "id": "msg_0",
    "type": "message",
    "role": "assistant",
    "status": "completed",
    "phase": "final",
    "content": [{"type": "output_text", "text": "18", "annotations": [], "logprobs": []}],
}


@pytest.mark.parametrize(
    ("input", "expected"),
    [
        ("Hola", [("user", "Hola")]),
        ([{"role": "user", "content": "Hola"}], [("user", "Hola")]),
        ([{"type": "message", "id": "msg_01a", **user(text("a"), text("b"))}], [("user", "a\nb")]),
        (
            [{"role": "developer", "content": "d"}, {"role": "system", "content": "s"}],
            [("system", "d"), ("system", "s")],
        ),
        ([user(text("2*9")), ECHOED, user(text("y"))], [("user", "2*9"), ("assistant", "18"), ("user", "y")]),
        ([{"role": "assistant", "content": "plain"}], [("assistant", "plain")]),
        ([{"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}], [("assistant", "no")]),
        (
            [{"type": "reasoning", "summary": [], "encrypted_content": None}, user(text("x"))],
            [("user", "x")],
        ),
        (
            [{"type": "web_search_call", "id": "ws_1", "action": {}}, user(text("x"))],
            [("user", "x")],
        ),
        ([{"type": "compaction", "encrypted_content": "zzz"}, user(text("x"))], [("user", "x")]),
        ([{"type": "agent_message", "content": [text("from another")]}], [("user", "from another")]),
        ([{"type": "agent_message", "content": {"of": "another shape"}}, user(text("x"))], [("user", "x")]),
        ([], [("user", "")]),
    ],
)
def test_items_are_messages(input: Any, expected: list[tuple[str, str]]) -> None:
    assert messages(input) == expected


def test_instructions_come_before_all_else() -> None:
    assert messages([{"role": "developer", "content": "d"}], instructions="i") == [("system", "i"), ("system", "d")]


def test_calls_belong_to_the_turn_that_made_them_and_outputs_to_their_calls() -> None:
    """Codex and the AI SDK send both calls first, then both outputs, in any order."""
    conversation = read(
        [
            user(text("weather")),
            ECHOED,
            CALL,
            {"type": "custom_tool_call", "call_id": "call_1", "name": "patch", "input": "+x"},
            {"type": "custom_tool_call_output", "call_id": "call_1", "output": "Exit code: 0"},
            {"type": "function_call_output", "call_id": "call_0", "output": [text("18"), text("C")]},
        ],
        tools=[FUNCTION, PATCH],
    ).conversations[0]
    assert [message.role for message in conversation] == ["user", "assistant", "tool", "tool"]
    turn, patched, weather = conversation[1:]
    assert turn.text == "18"
    assert [(call.name, call.arguments, call.kind) for call in turn.calls] == [
        ("f", "{}", "function"),
        ("patch", "+x", "custom"),
    ]
    assert patched.text == "Exit code: 0"
    assert patched.answers == turn.calls[1]
    assert weather.text == "18\nC"
    assert weather.answers == turn.calls[0]


def test_two_turns_of_the_assistant_stay_two() -> None:
    second = {"role": "assistant", "content": "b"}
    assert messages([{"role": "assistant", "content": "a"}, second]) == [("assistant", "a"), ("assistant", "b")]


def test_a_shell_call_of_another_server_is_a_call() -> None:
    items = [
        {
            "type": "local_shell_call",
            "call_id": "c",
            "action": {"type": "exec", "command": ["ls"]},
            "status": "completed",
        },
        {"type": "local_shell_call_output", "call_id": "c", "output": "a.txt"},
    ]
    call, result = read(items).conversations[0]
    assert json.loads(call.calls[0].arguments)["command"] == ["ls"]
    assert result.text == "a.txt"


def test_an_image_in_a_tools_output_becomes_a_note() -> None:
    output = {"type": "function_call_output", "call_id": "call_0", "output": [IMAGE, text("seen")]}
    assert messages([CALL, output])[-1] == ("tool", "[image not shown: this model reads text only]\nseen")


@pytest.mark.parametrize(
    ("input", "fields", "kind", "param"),
    [
        ([user(text("a"), IMAGE)], {}, errors.UnsupportedContent, "input[0].content[1].image_url"),
        ([user({"type": "input_file", "file_id": "f"})], {}, errors.UnsupportedContent, "input[0].content[0]"),
        ([user({"type": "input_text"})], {}, errors.MissingParameter, "input[0].content[0].text"),
        ([user({"type": "hologram"})], {}, errors.UnsupportedValue, "input[0].content[0].type"),
        ([{"role": "robot", "content": "x"}], {}, errors.InvalidValue, "input[0].role"),
        ([{"content": "x"}], {}, errors.MissingParameter, "input[0].type"),
        ([{"role": "user"}], {}, errors.MissingParameter, "input[0].content"),
        ([{"type": "telepathy"}], {}, errors.UnsupportedValue, "input[0].type"),
        (["x"], {}, errors.InvalidType, "input[0]"),
        ([{"role": "user", "content": "x", "id": 123}], {}, errors.InvalidType, "input[0].id"),
        (5, {}, errors.InvalidType, "input"),
        (None, {}, errors.InvalidType, "input"),
        ([{**CALL, "arguments": {}}], {}, errors.InvalidType, "input[0].arguments"),
        (
            [{"type": "function_call_output", "call_id": "nope", "output": ""}],
            {},
            errors.InvalidValue,
            "input[0].call_id",
        ),
        ([{"type": "item_reference", "id": "msg_0"}], {}, errors.ItemNotKept, "input[0]"),
        ("x", {"previous_response_id": "resp_1"}, errors.PreviousResponseNotFound, "previous_response_id"),
        ("x", {"conversation": "conv_1"}, errors.UnsupportedParameter, "conversation"),
        ("x", {"prompt": {"id": "p"}}, errors.UnsupportedParameter, "prompt"),
        ("x", {"background": True}, errors.UnsupportedParameter, "background"),
        ("x", {"top_logprobs": 3}, errors.UnsupportedParameter, "top_logprobs"),
        ("x", {"include": ["message.output_text.logprobs"]}, errors.UnsupportedParameter, "include"),
        ("x", {"truncation": "middle"}, errors.UnsupportedValue, "truncation"),
        ("x", {"max_output_tokens": 0}, errors.InvalidValue, "max_output_tokens"),
        ("x", {"text": {"format": {"type": "xml"}}}, errors.UnsupportedValue, "text.format.type"),
        ("x", {"text": {"format": {"type": "json_schema", "schema": 3}}}, errors.InvalidType, "text.format.schema"),
        ("x", {"text": []}, errors.InvalidType, "text"),
        ("x", {"metadata": "x"}, errors.InvalidType, "metadata"),
        ("x", {"stream": "yes"}, errors.InvalidType, "stream"),
        ("x", {"model": "other"}, errors.ModelNotFound, None),
        ("x", {"tools": [{"type": "function"}]}, errors.MissingParameter, "tools[0].function"),
        ("x", {"tools": [{"type": "namespace", "tools": []}]}, errors.MissingParameter, "tools[0].name"),
        ("x", {"tools": [FUNCTION], "tool_choice": {"type": "web_search"}}, errors.UnsupportedValue, "tool_choice"),
        (
            "x",
            {"tools": [FUNCTION], "tool_choice": {"type": "function", "name": "g"}},
            errors.InvalidValue,
            "tool_choice",
        ),
        ("x", {"tools": [FUNCTION], "tool_choice": {"type": "function"}}, errors.InvalidType, "tool_choice.name"),
        ("x", {"tools": [{"type": "web_search"}], "tool_choice": "required"}, errors.InvalidValue, "tool_choice"),
        ("x", {"tools": [FUNCTION], "tool_choice": "perhaps"}, errors.UnsupportedValue, "tool_choice"),
    ],
)
def test_what_cannot_be_honoured_is_named_with_its_place(
    input: Any, fields: dict[str, Any], kind: type[errors.ProxyError], param: str | None
) -> None:
    with pytest.raises(kind) as caught:
        read(input, **fields)
    assert type(caught.value) is kind
    assert caught.value.param == param


@pytest.mark.parametrize("wrong", [b'"tools":[{"type":"x","\xff":1}]', b'"metadata":{"a":"\x80"}', b'"other":"\xc3"'])
def test_bytes_that_are_no_utf8_are_refused_wherever_they_stand(wrong: bytes) -> None:
    """They would be told back, or passed on, as they are."""
    endpoint = ResponsesEndpoint(MODELS, lambda: (DIGITS, 1), keeps=True)
    with pytest.raises(errors.MalformedJson):
        endpoint.parse(b'{"model":"sai-model","input":"x",' + wrong + b"}")


def test_what_clients_send_unasked_passes() -> None:
    chat = read(
        "x",
        stream=False,
        store=False,
        include=["reasoning.encrypted_content", "web_search_call.action.sources"],
        reasoning={"summary": "auto"},
        text={"verbosity": "low"},
        truncation="auto",
        metadata={"a": "b"},
        prompt_cache_key="k",
        client_metadata={"x-codex": "1"},
        service_tier="auto",
        user="u",
        temperature=0.5,
        top_p=1,
        max_tool_calls=3,
        stream_options={"include_obfuscation": False},
        tools=[],
        tool_choice="auto",
        parallel_tool_calls=True,
        top_logprobs=0,
        background=False,
        conversation=None,
        prompt=None,
        previous_response_id=None,
        an_undocumented_field=[1],
    )
    assert chat.toolset is None
    assert chat.truncate
    assert "reasoning" in chat.ignored


def test_a_format_is_flat() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    output = read("x", text={"format": {"type": "json_schema", "name": "n", "schema": schema, "strict": True}}).output
    assert output is not None
    assert output.schema == schema
    assert output.strict
    assert read("x", text={"format": {"type": "json_object"}}).output is not None
    assert read("x", text={"format": {"type": "text"}, "verbosity": "low"}).output is None


@pytest.mark.parametrize("field", ["metadata", "tools", "input", "reasoning"])
@pytest.mark.parametrize("depth", [700, 960, 990, 5_000])
def test_what_is_nested_nearly_too_deeply_to_be_told_back_is_refused(field: str, depth: int) -> None:
    endpoint = ResponsesEndpoint(MODELS, lambda: (DIGITS, 1), keeps=True)
    deep = '{"a":' * depth + "1" + "}" * depth
    value = {"metadata": deep, "reasoning": deep, "tools": f"[{deep}]", "input": f"[{deep}]"}[field]
    rest = "" if field == "input" else ',"input":"x"'
    with pytest.raises(errors.InvalidRequest):
        endpoint.parse(f'{{"model":"sai-model","{field}":{value}{rest}}}'.encode())


@pytest.mark.parametrize("role", ["user", "assistant", "system"])
def test_a_message_is_the_same_by_whatever_form_it_comes(role: str) -> None:
    kind = "output_text" if role == "assistant" else "input_text"
    plain: list[ChatMessage] = list(read([{"role": role, "content": "x"}]).conversations[0])
    parts = list(read([{"type": "message", "role": role, "content": [{"type": kind, "text": "x"}]}]).conversations[0])
    assert plain == parts


def test_a_shell_calls_output_may_name_it_by_either_id() -> None:
    """OpenAI's reference has the output's `id` for it, its examples `call_id`."""
    call = {"type": "local_shell_call", "id": "lsh_1", "call_id": "c", "action": {"command": ["ls"]}}
    for named in ({"call_id": "c"}, {"id": "lsh_1"}, {"id": "c"}):
        made, result = read([call, {"type": "local_shell_call_output", "output": "a.txt", **named}]).conversations[0]
        assert result.answers == made.calls[0]
    with pytest.raises(errors.MissingParameter) as caught:
        read([call, {"type": "local_shell_call_output", "output": "a.txt"}])
    assert caught.value.param == "input[1].call_id"


@pytest.mark.parametrize(
    "item",
    [
        {"type": "tool_search_output", "tools": [{"a": 1}]},
        {"type": "computer_call_output", "call_id": "c", "output": {"type": "computer_screenshot", "image_url": "x"}},
        {"type": "mcp_approval_response", "approve": True},
    ],
)
def test_what_other_servers_items_hold_is_not_for_the_model(item: dict[str, Any]) -> None:
    assert messages([item, user(text("x"))]) == [("user", "x")]


def test_a_file_in_a_tools_output_becomes_a_note() -> None:
    output = {"type": "function_call_output", "call_id": "call_0", "output": [{"type": "input_file", "file_id": "f"}]}
    assert messages([CALL, output])[-1] == ("tool", "[file not shown: this model reads text only]")


def test_what_another_agent_says_ends_the_assistants_turn() -> None:
    said = [{"role": "assistant", "content": "a"}, {"type": "agent_message", "content": "b"}]
    assert messages(said) == [("assistant", "a"), ("user", "b")]


def test_a_message_of_nothing_is_none() -> None:
    assert messages([{"role": "developer", "content": []}, user(), user(text("x"))]) == [("user", "x")]


def test_a_schema_is_bounded_in_bytes() -> None:
    large = {"type": "json_schema", "name": "n", "schema": {"description": "x" * MAX_TOOLS_BYTES}}
    with pytest.raises(errors.InvalidValue) as caught:
        read("x", text={"format": large})
    assert caught.value.param == "text.format.schema"
