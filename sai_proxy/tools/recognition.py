"""Whether what a text goes on with may be a tool call, seen from its first characters. Pure."""

import re
from typing import Literal, NamedTuple

from sai_proxy.conversation.offer import Toolset
from sai_proxy.tools.calls import ARGUMENT_KEYS, COMMAND_KEYS, NAME_KEYS, OTHER_KEYS, TYPES, WRAPPER_KEYS

HEAD_CHARS = 512
"""Within so many characters it must have shown what it is."""

TRIGGER = re.compile(r'\{(?=\s*(?:"|\Z))|```|``?\Z|<(?=[tf/]|\Z)|\[(?<![^\n]\[)(?=\s*(?:[{\[]|\Z))')
"""Where a call may begin: an object with a key, a code fence, a tag, a list at the beginning of a line. Each
alternative begins with its character, so that Python looks for these alone: else it takes nine times as long."""

_TAGS = ("<tool_call>", "<tool_calls>", "<function_call>", "<tools>")
_FENCE_INFO = ("", "json", "tool_call", "tool_calls", "tool", "tool_code", "xml")
_FENCE = re.compile(r"```+([^\n`]*)\n")
_EXAMPLE = re.compile(r"(?:por ejemplo|ejemplo|for example|example|e\.g\.)\s*[:,]?\s*(?:`{3}\w*)?\s*$", re.IGNORECASE)
_KEY = re.compile(r'\s*,?\s*"([^"\\]*)"\s*:\s*')
_SCALAR = re.compile(r'"((?:[^"\\]|\\.)*)"|-?\d[\d.eE+-]*(?=[\s,}])|true|false|null')
_SPACES = re.compile(r"\s*")
_BARE_BRACE = re.compile(r"\{\s*")
_OPENING = re.compile(r"[\s\[]*")
_DECISIVE_KEYS = (*WRAPPER_KEYS, "function", "custom")
_KEYS = frozenset((*WRAPPER_KEYS, *NAME_KEYS, *ARGUMENT_KEYS, *COMMAND_KEYS, *OTHER_KEYS))
_ANY_NAME_KEY = "action"
"""Names what is done, which need not be a tool."""

Verdict = Literal["yes", "no", "more"]


class Judgement(NamedTuple):
    """begin: where the JSON of a call begins. `more`: it cannot be said yet."""

    verdict: Verdict
    begin: int = 0


def _end_of(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return at if match is None else match.end()


class Recognizer:
    def __init__(self, toolset: Toolset) -> None:
        self._names = frozenset(tool.name for tool in toolset.offered)

    def judge(self, head: str, before: str) -> Judgement:
        """head: the text from a trigger on, at most HEAD_CHARS of it. before: the end of what precedes it."""
        if head[0] == "`":
            if not head.startswith("```"):
                return Judgement("more" if len(head.strip("`")) == 0 else "no")
            fence = _FENCE.match(head)
            if fence is None:
                return Judgement("no" if "\n" in head else "more")
            if fence[1].strip().lower() not in _FENCE_INFO:
                return Judgement("no")
            return self._judge_json(head, fence.end(), before)
        if head[0] == "<":
            tag = next((tag for tag in _TAGS if head.startswith(tag)), None)
            if tag is None:
                return Judgement("more" if any(tag.startswith(head) for tag in _TAGS) else "no")
            return self._judge_json(head, len(tag), before)
        return self._judge_json(head, 0, before)

    def _judge_json(self, head: str, begin: int, before: str) -> Judgement:
        """Blanks, list brackets and a tag inside a fence are passed over."""
        if tag := next((tag for tag in _TAGS if head.startswith(tag, _end_of(_SPACES, head, begin))), None):
            begin = _end_of(_SPACES, head, begin) + len(tag)
        at = _end_of(_OPENING, head, begin)
        if at >= len(head) or any(tag.startswith(head[at:]) for tag in _TAGS):
            return Judgement("more", begin)
        if _BARE_BRACE.fullmatch(head, at):
            return Judgement("more", begin)
        if head[at] != "{" or _EXAMPLE.search(before + head[:begin]):
            return Judgement("no", begin)
        return Judgement(self._judge_object(head, at + 1), begin)

    def _judge_object(self, head: str, at: int) -> Verdict:
        """By the keys of an object, from behind its brace on, as far as they are there."""
        while key := _KEY.match(head, at):
            name, at = key[1], key.end()
            if name not in _KEYS:
                return "no"
            if at >= len(head):
                return "more"
            verdict = self._judge_value(name, head, at)
            if verdict is not None:
                return verdict
            value = _SCALAR.match(head, at)
            if value is None:
                return "more" if head[at] in '"-0123456789tfn' else "no"
            at = value.end()
        return self._judge_partial_key(head[at:].lstrip(" \t\r\n,"))

    def _judge_value(self, key: str, head: str, at: int) -> Verdict | None:
        """None if this key's value decides nothing."""
        if key in _DECISIVE_KEYS:
            return "yes" if head[at] in '{["' else "no"
        if key in ARGUMENT_KEYS or key in COMMAND_KEYS:
            return "yes"
        value = _SCALAR.match(head, at)
        text = (value[1] if value else head[at + 1 :]) or ""
        if key in NAME_KEYS:
            if value and self._is_name(text):
                return "yes"
            if key == _ANY_NAME_KEY and head[at] == '"':
                return None
            return "more" if not value and head[at] == '"' and self._may_be_name(text) else "no"
        if key == "type":
            if value:
                return None if text in TYPES else "no"
            return "more" if head[at] == '"' and any(kind.startswith(text) for kind in TYPES) else "no"
        return None

    def _judge_partial_key(self, rest: str) -> Verdict:
        if not rest:
            return "more"
        if rest[0] != '"':
            return "no"
        name, quote, behind = rest[1:].partition('"')
        if not quote:
            return "more" if any(key.startswith(name) for key in _KEYS) else "no"
        return "more" if name in _KEYS and not behind.strip() else "no"

    def _is_name(self, text: str) -> bool:
        return text.removeprefix("functions.") in self._names

    def _may_be_name(self, begun: str) -> bool:
        bare = begun.removeprefix("functions.")
        return "functions.".startswith(begun) or any(name.startswith(bare) for name in self._names)
