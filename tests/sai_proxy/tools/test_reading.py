"""What of a model's text is a call, and what stays text. The forms are those that SAI's callers have seen."""

import contextlib
import json
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sai_proxy.conversation.offer import Toolset
from sai_proxy.errors import ToolCallCut
from sai_proxy.tools.reading import CallReader
from tests.sai_proxy.tools.reading import TOOLSET, Call, read, read_pieces

ROME: Call = ("get_weather", '{"city":"Rome"}')
OSLO: Call = ("get_weather", '{"city":"Oslo"}')
FLAT = '{"name":"get_weather","arguments":{"city":"Rome"}}'
WRAPPER = f'{{"tool_calls":[{FLAT}]}}'

CALLS: dict[str, tuple[str, list[Call]]] = {
    "the form that is asked for": (WRAPPER, [ROME]),
    "nested, arguments as a string": (
        '{"tool_calls":[{"type":"function","function":{"name":"get_weather","arguments":"{\\"city\\":\\"Rome\\"}"}}]}',
        [ROME],
    ),
    "function_call, arguments as an object": (
        '{"tool_calls":[{"type":"function_call","function":{"name":"get_weather","arguments":{"city":"Rome"}}}]}',
        [ROME],
    ),
    "custom, free text": (
        '{"tool_calls":[{"type":"custom_tool_call","function":{"name":"apply_patch","arguments":"*** Begin\\n+x"}}]}',
        [("apply_patch", "*** Begin\n+x")],
    ),
    "custom, raw line breaks": (
        '{"tool_calls":[{"type":"custom","function":{"name":"apply_patch","arguments":"*** Begin\n+x"}}]}',
        [("apply_patch", "*** Begin\n+x")],
    ),
    "one object in place of the list": (
        '{"tool_calls":{"name":"get_weather","arguments":"{\\"city\\":\\"Rome\\"}"}}',
        [ROME],
    ),
    "a lone call": ('{"type":"function_call","name":"get_weather","arguments":"{\\"city\\":\\"Rome\\"}"}', [ROME]),
    "a lone nested call": (
        '{"type":"function","function":{"name":"get_weather","arguments":{"city":"Rome"}}}',
        [ROME],
    ),
    "fenced": (f"```json\n{WRAPPER}\n```", [ROME]),
    "fenced without a language": (f"```\n{FLAT}\n```", [ROME]),
    "fenced, the fence not closed": (f"```json\n{FLAT}", [ROME]),
    "two wrappers in a row": (f"{WRAPPER} {WRAPPER.replace('Rome', 'Oslo')}", [ROME, OSLO]),
    "two objects in one fence": (f"```json\n{FLAT}\n{FLAT.replace('Rome', 'Oslo')}\n```", [ROME, OSLO]),
    "two fences": (f"```json\n{FLAT}\n```\n```json\n{FLAT.replace('Rome', 'Oslo')}\n```", [ROME, OSLO]),
    "a bare list": (f"[{FLAT},{FLAT.replace('Rome', 'Oslo')}]", [ROME, OSLO]),
    "a tag": (f"<tool_call>\n{FLAT}\n</tool_call>", [ROME]),
    "a tag in a fence": (f"```xml\n<tool_call>\n{FLAT}\n</tool_call>\n```", [ROME]),
    "a tag that is not closed": (f"<tool_call>{FLAT}", [ROME]),
    "parameters in place of arguments": ('{"name":"get_weather","parameters":{"city":"Rome"}}', [ROME]),
    "tool_name and args": ('{"tool_name":"get_weather","args":{"city":"Rome"}}', [ROME]),
    "arguments in the root": ('{"tool_name":"get_weather","city":"Rome"}', [ROME]),
    "action": ('{"action":"get_weather","arguments":{"city":"Rome"}}', [ROME]),
    "action and tool": ('{"action":"executar_ferramenta","tool":"get_weather","parameters":{"city":"Rome"}}', [ROME]),
    "arguments first": ('{"arguments":{"city":"Rome"},"name":"get_weather"}', [ROME]),
    "an id first": ('{"id":"call_7","type":"function","name":"get_weather","arguments":{"city":"Rome"}}', [ROME]),
    "a command": ('{"cmd":["exec_command","ls -la"]}', [("exec_command", '{"cmd":"ls -la"}')]),
    "a bare command that one tool takes": ('{"cmd":"ls"}', [("exec_command", '{"cmd":"ls"}')]),
    "a prefixed name": ('{"name":"functions.get_weather","arguments":{"city":"Rome"}}', [ROME]),
    "a tool without parameters": ('{"tool_calls":[{"name":"Exit"}]}', [("Exit", "{}")]),
    "indented": ('{\n  "tool_calls": [\n    {"name": "get_weather", "arguments": {"city": "Rome"}}\n  ]\n}', [ROME]),
}


@pytest.mark.parametrize("size", [None, 1, 3, 17])
@pytest.mark.parametrize(("text", "calls"), CALLS.values(), ids=CALLS)
def test_a_call_is_read_in_every_form_however_it_is_cut(text: str, calls: list[Call], size: int | None) -> None:
    found = read(text, size)
    assert (found.text, found.calls) == ("", calls)


@pytest.mark.parametrize("size", [None, 1, 5])
@pytest.mark.parametrize(("text", "calls"), CALLS.values(), ids=CALLS)
def test_text_before_a_call_stays_to_the_letter(text: str, calls: list[Call], size: int | None) -> None:
    found = read(f"I will look, {{as you said}}.\n\n{text}", size)
    assert (found.text, found.calls) == ("I will look, {as you said}.\n\n", calls)


REPAIRED = {
    "unescaped quotes": (
        '{"tool_calls":[{"name":"write_file","arguments":{"path":"a.py","content":"print("hi")\nx"}}]}',
        {"path": "a.py", "content": 'print("hi")\nx'},
    ),
    "closers in the wrong order": (
        '{"tool_calls":[{"name":"write_file","arguments":{"path":"a","content":"c"}]}]}',
        {"path": "a", "content": "c"},
    ),
    "a backslash that escapes nothing": (
        '{"name":"write_file","arguments":{"path":"a","content":"^\\d+$"}}',
        {"path": "a", "content": "^\\d+$"},
    ),
    "raw line breaks and tabs": (
        '{"name":"write_file","arguments":{"path":"a","content":"a\n\tb\n"}}',
        {"path": "a", "content": "a\n\tb\n"},
    ),
}


@pytest.mark.parametrize("size", [None, 1])
@pytest.mark.parametrize(("text", "arguments"), REPAIRED.values(), ids=REPAIRED)
def test_broken_quoting_is_mended(text: str, arguments: dict[str, str], size: int | None) -> None:
    found = read(text, size)
    assert found.text == ""
    assert [(name, json.loads(given)) for name, given in found.calls] == [("write_file", arguments)]


TEXTS = {
    "plain": "Nothing to call here.",
    "an answer in JSON": '{"name":"Ana","age":3}',
    "an answer in JSON at the end": 'The result is {"path":"/tmp/x","ok":true}',
    "a wrapper in which nothing is offered": '{"tool_calls":[{"name":"rm","arguments":{"x":1}}]}',
    "a call inside another object": f'{{"result": {FLAT}}}',
    "an example": f"Por ejemplo: {WRAPPER} haría eso.",
    "an example in a fence": f"For example:\n```json\n{WRAPPER}\n```\nThat is the form.",
    "code": f"```python\nx = {FLAT}\n```\n",
    "a fence of JSON that is no call": '```json\n{"a": [1, 2]}\n```\n',
    "braces": "if (x) { return {}; } // <tool> `a` ``b`` [1]",
    "an open brace at the end": "set {",
    "a name alone": '{"name":"get_weather"}',
    "less and greater": "a < b, <t>, <to, </tool_call>",
    "a data list": '[{"name":"Rome"},{"name":"Oslo"}]',
    "ordinary JSON that was cut": '{"city":"Rome","text":"abc',
}


@pytest.mark.parametrize("size", [None, 1, 3])
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_what_is_no_call_stays_text_to_the_letter(text: str, size: int | None) -> None:
    found = read(text, size)
    assert (found.text, found.calls) == (text, [])


CUT = {
    "in the arguments": '{"tool_calls":[{"name":"write_file","arguments":{"path":"a","content":"f() { return 1; }',
    "in quoted JSON that looks complete": (
        '{"tool_calls":[{"name":"write_file","arguments":{"path":"a","content":"{\\"a\\":{\\"b\\":[{\\"c\\":1}]}}'
    ),
    "behind the arguments": '{"tool_calls":[{"name":"get_weather","arguments":{"city":"Rome"}',
    "behind the last bracket but one": WRAPPER[:-1],
    "at the beginning": '{"tool_calls":[',
    "in a fence": '```json\n{"name":"get_weather","arguments":{"city":"Ro',
}


@pytest.mark.parametrize("size", [None, 1])
@pytest.mark.parametrize("text", CUT.values(), ids=CUT)
def test_a_call_that_was_cut_is_never_closed(text: str, size: int | None) -> None:
    with pytest.raises(ToolCallCut):
        read(f"Working on it. {text}", size)


@pytest.mark.parametrize("cut", range(1, len(CALLS["nested, arguments as a string"][0])))
def test_no_beginning_of_a_call_is_one(cut: int) -> None:
    try:
        found = read(CALLS["nested, arguments as a string"][0][:cut])
    except ToolCallCut:
        return
    assert found.calls == []


def test_what_follows_a_call_is_cut_and_noted() -> None:
    found = read(f"{WRAPPER}\nResult of get_weather: 30 degrees. It is warm in Rome.")
    assert (found.text, found.calls) == ("", [ROME])
    assert found.notes.dropped == [54]


def test_without_parallel_calls_the_first_one_counts() -> None:
    found = read(f"[{FLAT},{FLAT}]{FLAT}", toolset=Toolset(TOOLSET.offered, parallel=False))
    assert found.calls == [ROME]


@pytest.mark.parametrize(
    ("begun", "given"),
    [
        ("Hello world", "Hello world"),
        ("a {b", "a {b"),
        ('{"city', '{"city'),
        ('```python\nx = {"tool_calls', '```python\nx = {"tool_calls'),
        ("a < b", "a < b"),
        ('Look: {"name":"An', 'Look: {"name":"An'),
        ('Look: {"tool_', "Look: "),
        ("Look: ``", "Look: "),
        ("Look: <tool", "Look: "),
    ],
)
def test_only_what_may_be_a_call_is_held_back(begun: str, given: str) -> None:
    given_so_far: list[str] = []
    reader = CallReader(TOOLSET, lambda: "call_1")
    for piece in begun:
        given_so_far += [event for event in reader.feed(piece) if isinstance(event, str)]
    assert "".join(given_so_far) == given


NEAR_CALLS = st.lists(
    st.sampled_from(
        [
            *(
                '{"',
                '"}',
                "{",
                "}",
                "[",
                "]",
                ":",
                ",",
                '"',
                "\\",
                '\\"',
                "\n",
                " ",
                "```",
                "```json\n",
                "`",
                "<tool_call>",
            ),
            *(
                "</tool_call>",
                "tool_calls",
                '"tool_calls":[',
                '"name":',
                '"arguments":',
                '"get_weather"',
                '"type":',
                "city",
            ),
            *(
                '{"name":"get_weather","arguments":{"city":"Rome"}}',
                '"function":{',
                "Por ejemplo: ",
                "text",
                "é",
                "😀",
                "\n\n",
            ),
        ]
    ),
    max_size=25,
).map("".join)


@given(NEAR_CALLS, st.data())
@example('{"tool_calls":[', None)
@example("```json\n" + FLAT + "``", None)
def test_the_cut_of_a_text_does_not_matter(text: str, data: st.DataObject | None) -> None:
    def outcome(pieces: list[str]) -> object:
        try:
            found = read_pieces(pieces)
        except ToolCallCut:
            return "cut"
        return found.text, found.calls

    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=8))) if data else [1, 5]
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    whole = outcome([text])
    assert outcome(pieces) == whole
    assert outcome(list(text)) == whole


@given(NEAR_CALLS)
def test_without_a_call_the_text_is_all_there(text: str) -> None:
    try:
        found = read(text)
    except ToolCallCut:
        return
    if not found.calls:
        assert found.text == text


FLOODS = (
    "{",
    '"',
    "<tool_call>",
    "`",
    '{"',
    "[\n",
    '{"name":"',
    "```json\n",
    '{"id":"a",',
    "[",
    '{"tool_calls":[',
    "}",
)


@pytest.mark.parametrize("flood", FLOODS)
def test_no_flood_costs_more_than_its_length(flood: str) -> None:
    """Twice the text takes about twice the time. The bound is wide: a quadratic reader took minutes."""

    def seconds(length: int) -> float:
        text = flood * (length // len(flood))
        started = time.process_time()
        with contextlib.suppress(ToolCallCut):
            read(text, 4_096)
        return time.process_time() - started

    assert seconds(2**18) < 16 * max(seconds(2**16), 0.01)


WHOLE = '{"name":"get_weather","arguments":{"city":"Lima"}}'


@pytest.mark.parametrize(
    "begun", ["", f"<tool_call>{WHOLE}", f"```json\n{WHOLE}\n", f"{WHOLE}\n", "```python\n", '{"a": 1']
)
@pytest.mark.parametrize("drop", [" ", "\n", "]", "`", "x"])
def test_no_drip_behind_a_beginning_costs_more_than_its_length(begun: str, drop: str) -> None:
    """What came before is not looked at again with each drop: all of it in small pieces stays in proportion."""

    def seconds(drops: int) -> float:
        reader = CallReader(TOOLSET, lambda: "call_1")
        started = time.process_time()
        with contextlib.suppress(ToolCallCut):
            reader.feed(begun)
            for _ in range(drops):
                reader.feed(4 * drop)
            reader.end()
        return time.process_time() - started

    assert seconds(2**14) < 10 * max(seconds(2**12), 0.01)
