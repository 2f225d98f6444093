import json
from typing import Any

import pytest
from msgspec import Raw

from sai_proxy.conversation.offer import Toolset
from sai_proxy.errors import InvalidRequest
from sai_proxy.openai_api.remembered import Remembered
from sai_proxy.openai_api.response_tools import read_response_tools
from sai_proxy.openai_api.tools import read_toolset
from sai_proxy.tools import asking
from sai_proxy.tools.asking import ask_for_tools


def raw(value: Any) -> Raw:
    return Raw(json.dumps(value).encode())


def tool(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}


def test_the_oldest_goes_first() -> None:
    remembered: Remembered[int] = Remembered(max_bytes=10, max_one=5)
    remembered.put(b"aaaa", 4, 1)
    remembered.put(b"bbbb", 4, 2)
    assert remembered.get(b"aaaa") == 1, "and is the newest now"
    remembered.put(b"cccc", 4, 3)
    assert [remembered.get(name) for name in (b"aaaa", b"bbbb", b"cccc")] == [1, None, 3]


def test_what_is_long_is_not_remembered() -> None:
    remembered: Remembered[int] = Remembered(max_bytes=10, max_one=5)
    remembered.put(b"aaaaaa", 6, 1)
    assert remembered.get(b"aaaaaa") is None


@pytest.mark.parametrize("read", [read_toolset, lambda *a, **k: read_response_tools(*a, **k).toolset])
def test_tools_are_read_once_and_never_taken_for_others(read: Any) -> None:
    def toolset(tools: Any, choice: Any = "auto", parallel: bool | None = None) -> Toolset | None:
        found: Toolset | None = read(raw(tools), raw(choice), parallel=parallel)
        return found

    first = toolset([tool("a")])
    assert first is not None
    assert toolset([tool("a")]) is first
    assert toolset([tool("b")]) != first
    required, single = toolset([tool("a")], "required"), toolset([tool("a")], parallel=False)
    assert required is not None
    assert single is not None
    assert (first.demand, required.demand, first.parallel, single.parallel) == ("auto", "required", True, False)
    assert toolset([tool("a")], "none") is None
    assert toolset([tool("a")], "none") is None


def test_what_is_refused_is_refused_again() -> None:
    for _ in range(2):
        with pytest.raises(InvalidRequest):
            read_toolset(raw([tool("not a name")]), Raw(), parallel=None)


def test_the_words_for_tools_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    toolset = read_toolset(raw([tool("once")]), Raw(), parallel=None)
    assert toolset is not None
    words = ask_for_tools(toolset)
    assert "once" in words
    monkeypatch.setattr(asking, "_asked", None)
    assert ask_for_tools(toolset) is words
