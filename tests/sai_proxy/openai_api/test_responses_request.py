import json
from typing import Any

import pytest
from msgspec import Raw

from sai_proxy import errors
from sai_proxy.conversation.chat import ChatMessage, ChatRequest, Route
from sai_proxy.openai_api.kept_responses import (
    MAX_ANCESTORS,
    MAX_RECALLED_BYTES,
    MAX_REFERENCES,
    NOTHING,
    ItemIndex,
    Kept,
    Recalled,
    ancestors_of,
    input_items,
    lineage,
    references,
)
from sai_proxy.openai_api.response_tools import read_response_tools
from sai_proxy.openai_api.responses_endpoint import ResponsesEndpoint
from tests.sai_proxy.openai_api.responses import DIGITS, keeping, kept_of

MODELS = {"sai-model": Route("t")}
F = {"type": "function", "name": "f", "parameters": {"type": "object"}}
PATCH = {"type": "custom", "name": "patch", "format": {"type": "grammar", "syntax": "lark", "definition": "start: X"}}
AGENTS = {
    "type": "namespace",
    "name": "agents",
    "description": "Others.",
    "tools": [{"type": "function", "name": "f", "parameters": {}}, {"type": "function", "name": "wait"}],
}
CALL = {
    "type": "function_call",
    "id": "fc_0",
    "call_id": "call_0",
    "name": "f",
    "arguments": "{}",
    "status": "completed",
}
IMAGE = {"type": "input_image", "image_url": "data:image/png;base64,AA", "detail": "high"}


def read(input: Any, recalled: Recalled = NOTHING, **fields: Any) -> ChatRequest:
    endpoint = ResponsesEndpoint(MODELS, lambda: (DIGITS, 1), keeps=True)
    return endpoint.parse(json.dumps({"model": "sai-model", "input": input, **fields}).encode(), recalled).chat_request


def messages(input: Any, recalled: Recalled = NOTHING, **fields: Any) -> list[tuple[str, str]]:
    return [(message.role, message.text) for message in read(input, recalled, **fields).conversations[0]]


def user(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(parts)}


def text(said: str) -> dict[str, str]:
    return {"type": "input_text", "text": said}


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
        tools=[F, PATCH],
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
        ("x", {"tools": [F], "tool_choice": {"type": "web_search"}}, errors.UnsupportedValue, "tool_choice"),
        ("x", {"tools": [F], "tool_choice": {"type": "function", "name": "g"}}, errors.InvalidValue, "tool_choice"),
        ("x", {"tools": [F], "tool_choice": {"type": "function"}}, errors.InvalidType, "tool_choice.name"),
        ("x", {"tools": [{"type": "web_search"}], "tool_choice": "required"}, errors.InvalidValue, "tool_choice"),
        ("x", {"tools": [F], "tool_choice": "perhaps"}, errors.UnsupportedValue, "tool_choice"),
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


def test_a_namespaces_tools_are_offered_by_a_qualified_name_and_their_calls_read_back() -> None:
    called = {**CALL, "namespace": "agents", "call_id": "call_7"}
    chat = read([called, {"type": "function_call_output", "call_id": "call_7", "output": "ok"}], tools=[F, AGENTS])
    assert chat.toolset is not None
    assert [tool.name for tool in chat.toolset.offered] == ["f", "agents.f", "agents.wait"]
    assert chat.conversations[0][0].calls[0].name == "agents.f"


def test_a_choice_may_name_a_namespaces_tool() -> None:
    chosen = read("x", tools=[F, AGENTS], tool_choice={"type": "function", "namespace": "agents", "name": "f"}).toolset
    assert chosen is not None
    assert [tool.name for tool in chosen.offered] == ["agents.f"]
    assert chosen.demand == "required"


def test_allowed_tools_bind() -> None:
    allowed = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "custom", "name": "patch"}]}
    toolset = read("x", tools=[F, PATCH], tool_choice=allowed).toolset
    assert toolset is not None
    assert [tool.name for tool in toolset.offered] == ["patch"]
    assert toolset.demand == "required"
    only_hosted = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "web_search"}]}
    assert read("x", tools=[F], tool_choice=only_hosted).toolset is None


def test_tools_that_openai_would_run_are_left_out_and_said() -> None:
    chat = read("x", tools=[{"type": "web_search", "external_web_access": True}, F, {"type": "tool_search"}])
    assert chat.left_out == ("web_search", "tool_search")
    assert chat.toolset is not None
    assert [tool.name for tool in chat.toolset.offered] == ["f"]


def test_a_format_is_flat() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    output = read("x", text={"format": {"type": "json_schema", "name": "n", "schema": schema, "strict": True}}).output
    assert output is not None
    assert output.schema == schema
    assert output.strict
    assert read("x", text={"format": {"type": "json_object"}}).output is not None
    assert read("x", text={"format": {"type": "text"}, "verbosity": "low"}).output is None


def test_a_conversation_goes_on_from_a_kept_answer() -> None:
    first = kept_of("1" * 48, [user(text("one"))], "ONE")
    second = kept_of("2" * 48, [user(text("two"))], "TWO", first.id)
    recalled = {first.id: first, second.id: second}
    said = messages("three", recalled, previous_response_id=second.id, instructions="now")
    assert said == [
        ("system", "now"),
        ("user", "one"),
        ("assistant", "ONE"),
        ("user", "two"),
        ("assistant", "TWO"),
        ("user", "three"),
    ]
    with pytest.raises(errors.PreviousResponseNotFound):  # without any of its ancestors it is another conversation
        messages("three", {second.id: second}, previous_response_id=second.id)


def test_a_reference_stands_for_its_item() -> None:
    kept = kept_of("1" * 48, [user(text("one"))], "ONE")
    mine, asked = f"msg_{'1' * 48}00", f"msg_{'1' * 48}i00"
    references = [{"type": "item_reference", "id": name} for name in (asked, mine)]
    assert messages([*references, user(text("two"))], {kept.id: kept}) == [
        ("user", "one"),
        ("assistant", "ONE"),
        ("user", "two"),
    ]
    assert ItemIndex({kept.id: kept}).item(f"msg_{'1' * 48}07", "input") is None


def test_what_is_kept_of_a_request_has_references_replaced_and_only_what_was_new() -> None:
    first = kept_of("1" * 48, [user(text("one"))], "ONE")
    body = {"input": [{"type": "item_reference", "id": f"msg_{'1' * 48}00"}, user(text("two"))]}
    kept = keeping(body, {first.id: first})
    assert [json.loads(bytes(item))["role"] for item in input_items(kept)] == ["assistant", "user"]
    kept = keeping({"input": "two", "previous_response_id": first.id}, {first.id: first})
    assert kept.ancestors == (first.id,)
    (item,) = input_items(kept)
    assert json.loads(bytes(item)) == {
        "type": "message",
        "role": "user",
        "content": [{"type": "input_text", "text": "two"}],
        "id": f"msg_{DIGITS}i00",
        "status": "completed",
    }


def test_nothing_is_kept_that_shall_not_be() -> None:
    endpoint = ResponsesEndpoint(MODELS, lambda: (DIGITS, 1), keeps=True)
    answer = endpoint.parse(b'{"model":"sai-model","input":"x","store":false}').answer
    assert answer.kept() is None


def test_references_are_found_however_they_are_written_and_only_there() -> None:
    name = f"msg_{'1' * 48}00"
    found = (None, (f"resp_{'1' * 48}",))
    plain = json.dumps({"input": [{"type": "item_reference", "id": name}]}).encode()
    assert references(plain) == found
    assert references(plain.replace(b"item_r", b"item" + bytes([92]) + b"u005fr")) == found
    words = json.dumps({"input": "item_reference " * 2_000, "previous_response_id": f"resp_{'2' * 48}"}).encode()
    assert references(words) == (f"resp_{'2' * 48}", ())
    for other in (b"{", b"[]", b"item_reference", b'{"input":[1],"x":"item_reference"}', b'{"previous_response_id":5}'):
        assert references(other) == (None, ())


def test_references_are_bounded_in_number_and_in_bytes() -> None:
    kept = kept_of("1" * 48, [user(text("one"))], "ONE")
    many = [{"type": "item_reference", "id": f"msg_{'1' * 48}00"}] * (MAX_REFERENCES + 1)
    with pytest.raises(errors.ArrayTooLong):
        messages(many, {kept.id: kept})
    large = Raw(b'[{"type":"reasoning","x":"' + b"x" * 2_000_000 + b'"}]')
    index = ItemIndex({kept.id: Kept(kept.id, kept.response, large)})
    for _ in range(MAX_RECALLED_BYTES // 2_000_000):
        assert index.item(f"rs_{'1' * 48}i00", "input") is not None
    with pytest.raises(errors.ContextLengthExceeded):
        index.item(f"rs_{'1' * 48}i00", "input")


def test_an_answer_names_only_its_last_ancestors() -> None:
    recalled: dict[str, Kept] = {}
    previous: str | None = None
    for number in range(100):
        ancestors = ancestors_of(previous, recalled) if previous else ()
        assert len(ancestors) <= MAX_ANCESTORS
        kept = kept_of(f"{number:048x}", [user(text(str(number)))], "said", *ancestors)
        recalled[kept.id] = kept
        previous = kept.id
    assert previous is not None
    answers = lineage(previous, recalled)
    assert answers is not None
    assert [kept.id for kept in answers] == list(recalled)
    del recalled[f"resp_{7:048x}"]
    assert lineage(previous, recalled) is None


def test_recalled_items_count_as_messages() -> None:
    kept = kept_of("1" * 48, [{"type": "reasoning"}] * 9_999, "ONE")
    with pytest.raises(errors.ArrayTooLong) as caught:
        messages("x", {kept.id: kept}, previous_response_id=kept.id)
    assert caught.value.param == "previous_response_id"


def test_an_item_that_was_referred_to_twice_has_two_names() -> None:
    item = {"type": "message", "id": "msg_mine", "role": "user", "content": "x"}
    kept = kept_of("1" * 48, [item, item, item], "ONE")
    names = [json.loads(bytes(found))["id"] for found in input_items(kept)]
    assert names[0] == "msg_mine"
    assert len(set(names)) == 3


@pytest.mark.parametrize("field", ["metadata", "tools", "input", "reasoning"])
@pytest.mark.parametrize("depth", [700, 960, 990, 5_000])
def test_what_is_nested_nearly_too_deeply_to_be_told_back_is_refused(field: str, depth: int) -> None:
    endpoint = ResponsesEndpoint(MODELS, lambda: (DIGITS, 1), keeps=True)
    deep = '{"a":' * depth + "1" + "}" * depth
    value = {"metadata": deep, "reasoning": deep, "tools": f"[{deep}]", "input": f"[{deep}]"}[field]
    rest = "" if field == "input" else ',"input":"x"'
    with pytest.raises(errors.InvalidRequest):
        endpoint.parse(f'{{"model":"sai-model","{field}":{value}{rest}}}'.encode())


def test_names_of_tools_never_collide() -> None:
    inner = [{"type": "function", "name": "b"}, {"type": "function", "name": "b.c"}]
    first = {"type": "namespace", "name": "a", "tools": inner}
    second = {"type": "namespace", "name": "a.b", "tools": [{"type": "function", "name": "c"}]}
    outer = {"type": "function", "name": "a.b"}
    tools = read_response_tools(Raw(json.dumps([first, outer, second]).encode()), Raw(), parallel=None)
    assert tools.toolset is not None
    known = [tool.name for tool in tools.toolset.offered]
    assert len(set(known)) == 4
    assert [tools.names.split(name) for name in known] == [("a", "b"), ("a", "b.c"), (None, "a.b"), ("a.b", "c")]
    assert tools.names.known("a.b", "c") == known[3]


def test_allowed_tools_that_nobody_here_runs_cannot_be_required() -> None:
    choice = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "web_search"}]}
    with pytest.raises(errors.InvalidValue):
        read("x", tools=[F], tool_choice=choice)


def test_the_log_is_told_of_few_tools() -> None:
    assert len(str(read("x", tools=[{"type": f"t{n}" + "x" * 900} for n in range(200)]).left_out)) < 1_000


@pytest.mark.parametrize("role", ["user", "assistant", "system"])
def test_a_message_is_the_same_by_whatever_form_it_comes(role: str) -> None:
    kind = "output_text" if role == "assistant" else "input_text"
    plain: list[ChatMessage] = list(read([{"role": role, "content": "x"}]).conversations[0])
    parts = list(read([{"type": "message", "role": role, "content": [{"type": kind, "text": "x"}]}]).conversations[0])
    assert plain == parts
