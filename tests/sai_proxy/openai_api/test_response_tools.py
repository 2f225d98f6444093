import json
from typing import Any

import pytest
from msgspec import Raw

from sai_proxy import errors
from sai_proxy.conversation.offer import Toolset
from sai_proxy.openai_api.response_tools import read_response_tools
from sai_proxy.openai_api.tools import MAX_TOOLS, MAX_TOOLS_BYTES
from tests.sai_proxy.openai_api.responses import CALL, FUNCTION, PATCH, read

AGENTS = {
    "type": "namespace",
    "name": "agents",
    "description": "Others.",
    "tools": [{"type": "function", "name": "f", "parameters": {}}, {"type": "function", "name": "wait"}],
}


def test_a_namespaces_tools_are_offered_by_a_qualified_name_and_their_calls_read_back() -> None:
    called = {**CALL, "namespace": "agents", "call_id": "call_7"}
    chat = read(
        [called, {"type": "function_call_output", "call_id": "call_7", "output": "ok"}], tools=[FUNCTION, AGENTS]
    )
    assert chat.toolset is not None
    assert [tool.name for tool in chat.toolset.offered] == ["f", "agents.f", "agents.wait"]
    assert chat.conversations[0][0].calls[0].name == "agents.f"


def test_a_choice_may_name_a_namespaces_tool() -> None:
    chosen = read(
        "x", tools=[FUNCTION, AGENTS], tool_choice={"type": "function", "namespace": "agents", "name": "f"}
    ).toolset
    assert chosen is not None
    assert [tool.name for tool in chosen.offered] == ["agents.f"]
    assert chosen.demand == "required"


def test_allowed_tools_bind() -> None:
    allowed = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "custom", "name": "patch"}]}
    toolset = read("x", tools=[FUNCTION, PATCH], tool_choice=allowed).toolset
    assert toolset is not None
    assert [tool.name for tool in toolset.offered] == ["patch"]
    assert toolset.demand == "required"
    only_hosted = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "web_search"}]}
    assert read("x", tools=[FUNCTION], tool_choice=only_hosted).toolset is None


def test_tools_that_openai_would_run_are_left_out_and_said() -> None:
    chat = read("x", tools=[{"type": "web_search", "external_web_access": True}, FUNCTION, {"type": "tool_search"}])
    assert chat.left_out == ("web_search", "tool_search")
    assert chat.toolset is not None
    assert [tool.name for tool in chat.toolset.offered] == ["f"]


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
        read("x", tools=[FUNCTION], tool_choice=choice)


def test_the_log_is_told_of_few_tools() -> None:
    assert len(str(read("x", tools=[{"type": f"t{n}" + "x" * 900} for n in range(200)]).left_out)) < 1_000


@pytest.mark.parametrize(
    "tool",
    [
        {"type": "mcp", "name": 5, "server_label": "x"},
        {"type": "hologram", "format": "png", "tools": "none", "parameters": [1]},
        {"type": "image_generation", "format": "png", "description": {"a": 1}, "strict": "yes"},
        {"type": "custom_search", "function": "f", "custom": 3},
    ],
)
def test_a_tool_that_nobody_here_runs_may_have_any_form(tool: dict[str, Any]) -> None:
    inside = {"type": "namespace", "name": "n", "tools": [tool, FUNCTION]}
    for tools, offered in (([tool, FUNCTION], "f"), ([inside], "n.f")):
        chat = read("x", tools=tools)
        assert chat.left_out == (tool["type"],)
        assert chat.toolset is not None
        assert [each.name for each in chat.toolset.offered] == [offered]


@pytest.mark.parametrize(
    ("tool", "kind", "param"),
    [
        ({"type": "function", "name": 5}, errors.InvalidType, "tools[1].name"),
        ({"type": "custom", "name": "c", "format": "png"}, errors.InvalidType, "tools[1].format"),
        ({"type": 5}, errors.InvalidType, "tools[1].type"),
        ("f", errors.InvalidType, "tools[1]"),
        ({"type": "namespace", "name": "n", "tools": {}}, errors.InvalidType, "tools[1].tools"),
        ({"type": "namespace", "name": "n", "tools": [5]}, errors.InvalidType, "tools[1].tools[0]"),
        (
            {"type": "namespace", "name": "n", "tools": [FUNCTION, {"type": "function", "name": []}]},
            errors.InvalidType,
            "tools[1].tools[1].name",
        ),
        (
            {"type": "namespace", "name": "n", "tools": [{"type": "function"}]},
            errors.MissingParameter,
            "tools[1].tools[0].function",
        ),
    ],
)
def test_a_tool_that_is_wrong_is_named_with_its_place(tool: Any, kind: type[errors.ProxyError], param: str) -> None:
    with pytest.raises(kind) as caught:
        read("x", tools=[FUNCTION, tool])
    assert caught.value.param == param


def test_a_namespaces_custom_calls_are_read_back_by_their_qualified_name() -> None:
    namespace = {"type": "namespace", "name": "edit", "tools": [PATCH]}
    called = {"type": "custom_tool_call", "namespace": "edit", "name": "patch", "call_id": "c", "input": "+x"}
    assert read([called], tools=[namespace]).conversations[0][0].calls[0].name == "edit.patch"


def test_a_call_of_a_namespace_that_is_gone_keeps_both_names() -> None:
    assert read([{**CALL, "namespace": "agents"}], tools=[FUNCTION]).conversations[0][0].calls[0].name == "agents.f"


def test_no_choice_offers_nothing() -> None:
    assert read("x", tools=[FUNCTION], tool_choice="none").toolset is None


@pytest.mark.parametrize("given", [None, True, False])
def test_calls_in_parallel_are_as_the_client_wants_them(given: bool | None) -> None:
    for choice in ("auto", {"type": "function", "name": "f"}):
        toolset = read("x", tools=[FUNCTION], tool_choice=choice, parallel_tool_calls=given).toolset
        assert toolset is not None
        assert toolset.parallel is (given is not False)


@pytest.mark.parametrize("mode", ["auto", "required"])
def test_what_is_allowed_is_demanded_only_where_the_client_says_so(mode: str) -> None:
    allowed = {"type": "allowed_tools", "mode": mode, "tools": [{"type": "function", "name": "f"}]}
    toolset = read("x", tools=[FUNCTION, PATCH], tool_choice=allowed, parallel_tool_calls=False).toolset
    assert toolset is not None
    assert toolset == Toolset(toolset.offered, mode, False)  # type: ignore[arg-type]
    assert [tool.name for tool in toolset.offered] == ["f"]


def test_tools_are_bounded_in_number_and_in_bytes() -> None:
    few = [{"type": "function", "name": f"f{number}"} for number in range(MAX_TOOLS)]
    assert len(read("x", tools=few).toolset.offered) == MAX_TOOLS  # type: ignore[union-attr]
    more = {"type": "namespace", "name": "n", "tools": [FUNCTION]}
    for kind, tools in (
        (errors.ArrayTooLong, [*few, more]),
        (errors.InvalidValue, [{**FUNCTION, "description": "x" * MAX_TOOLS_BYTES}]),
    ):
        with pytest.raises(kind) as caught:
            read("x", tools=tools)
        assert caught.value.param == "tools"
