"""What is kept of an answer so that later requests may refer to it, and how they do. Pure.

An answer is kept with what was new in its request, items that it referred to among it; what came before stays with
the answers before it, of which it names the last ones, as these do. So a conversation is there once, and a long one
takes few round trips without each of its answers naming all of it.
"""

import itertools
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw, Struct, field

from sai_proxy.errors import ArrayTooLong, ContextLengthExceeded
from sai_proxy.openai_api.raw import Anything, absent, kind_of

RESPONSE_PREFIX = "resp_"
STAMP_DIGITS = 48
"""Of an answer's id: whoever knows it may refer to it, if nothing else tells callers apart."""

MAX_REFERENCES = 256
"""Of one request."""

MAX_ANCESTORS = 32
"""That an answer names."""

MAX_RECALLED_BYTES = 16 * 1024 * 1024
"""That one request may refer to, each item as often as it is referred to: far more than any context window."""

MAX_PAGE = 100
DEFAULT_PAGE = 20
"""Items of a listing."""

MAX_OBJECTS = 200_000
"""In a body that is looked at before it is decoded for good."""

_REFERRING = re.compile(rb"item_reference|previous_response_id|\\u00", re.IGNORECASE)
"""As they stand in a body, be it with escapes."""

_ITEM_ID = re.compile(rf"[a-z]+_([0-9a-f]{{{STAMP_DIGITS}}})i?[0-9a-f]{{2,}}")
_RESPONSE_ID = re.compile(rf"{RESPONSE_PREFIX}[0-9a-f]{{{STAMP_DIGITS}}}")


class Kept(Struct, frozen=True):
    """One answer. response: JSON of the response object. input: JSON of the items that were new in its request.
    ancestors: ids of the last answers before it in its conversation, oldest first."""

    id: str
    response: Raw
    input: Raw
    ancestors: tuple[str, ...] = ()


class DeletedResponse(Struct):
    id: str
    object: str = "response"
    deleted: bool = True


class ItemList(Struct, kw_only=True):
    """One page of a response's input items."""

    object: str = "list"
    data: list[Anything]
    first_id: str | None
    last_id: str | None
    has_more: bool


Recalled = Mapping[str, Kept]
"""Kept answers by their ids."""

NOTHING: Recalled = MappingProxyType({})


class References(NamedTuple):
    """Ids of kept answers. previous: whose whole conversation is meant. others: of which single items are."""

    previous: str | None = None
    others: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.previous is not None or bool(self.others)


class _Referring(Struct):
    previous_response_id: Anything = field(default_factory=absent)
    input: Anything = field(default_factory=absent)


class _Item(Struct):
    type: Anything = field(default_factory=absent)
    id: Anything = field(default_factory=absent)


class _Output(Struct):
    output: list[Raw]


class _Id(Struct):
    id: str | None = None


_referring_decoder = msgspec.json.Decoder(_Referring)
_items_decoder = msgspec.json.Decoder(list[_Item])
_output_decoder = msgspec.json.Decoder(_Output)
_raws_decoder = msgspec.json.Decoder(list[Raw])
_id_decoder = msgspec.json.Decoder(_Id)
_item_decoder = msgspec.json.Decoder(dict[str, Raw])


def references(body: bytes | bytearray) -> References:
    """What a body refers to. Of one that is malformed, or refers to too much, nothing or a part: its own decoding
    says what is wrong."""
    if not _REFERRING.search(body) or body.count(b"{") > MAX_OBJECTS:
        return References()
    try:
        referring = _referring_decoder.decode(body)
        previous = _text(referring.previous_response_id)
        items = _items_decoder.decode(referring.input) if kind_of(referring.input) == "array" else []
        named = (_text(item.id) for item in items if _text(item.type) == "item_reference")
        ids = {response_of(name) for name in itertools.islice(named, MAX_REFERENCES + 1) if name}
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return References()
    others = tuple(sorted(name for name in ids if name))
    return References(previous if previous and is_response_id(previous) else None, others)


def is_response_id(text: str) -> bool:
    """Whether it is an id that an answer of ours could have."""
    return bool(_RESPONSE_ID.fullmatch(text))


def response_of(item_id: str) -> str | None:
    """The id of the answer that an item of ours belongs to."""
    match = _ITEM_ID.fullmatch(item_id)
    return RESPONSE_PREFIX + match[1] if match else None


class ItemIndex:
    """The items of recalled answers, by their ids. Raises InvalidRequest for more references than are allowed."""

    def __init__(self, recalled: Recalled) -> None:
        self._recalled = recalled
        self._by_answer: dict[str, dict[str | None, Raw]] = {}
        self._references = 0
        self._bytes = 0

    def item(self, item_id: str, param: str) -> Raw | None:
        """The item of this id, of the input or the output of a recalled answer."""
        self._references += 1
        if self._references > MAX_REFERENCES:
            raise ArrayTooLong({"limit": MAX_REFERENCES}, param=param)
        name = response_of(item_id) or ""
        kept = self._recalled.get(name)
        if kept is None:
            return None
        if name not in self._by_answer:
            items = (*input_items(kept), *output_items(kept))
            self._by_answer[name] = {_id_decoder.decode(item).id: item for item in items}
        found = self._by_answer[name].get(item_id)
        self._bytes += len(found) if found is not None else 0
        if self._bytes > MAX_RECALLED_BYTES:
            raise ContextLengthExceeded(param=param)
        return found


def oldest_named(previous: str, recalled: Recalled) -> Kept | None:
    """The oldest answer of the conversation that has been recalled so far, if it names older ones."""
    kept = recalled.get(previous)
    while kept is not None and kept.ancestors:
        older = recalled.get(kept.ancestors[0])
        if older is None:
            return kept
        kept = older
    return None


def lineage(previous: str, recalled: Recalled) -> list[Kept] | None:
    """The answers of the conversation that `previous` ends, oldest first; None if any of them is missing."""
    last = recalled.get(previous)
    if last is None:
        return None
    answers = [last]
    while answers[0].ancestors:
        earlier = [recalled.get(name) for name in answers[0].ancestors]
        found = [kept for kept in earlier if kept is not None]
        if len(found) < len(earlier):
            return None
        answers = [*found, *answers]
    return answers


def ancestors_of(previous: str, recalled: Recalled) -> tuple[str, ...]:
    """What an answer that follows `previous` names."""
    return (*recalled[previous].ancestors, previous)[-MAX_ANCESTORS:]


def conversation_of(previous: str, recalled: Recalled) -> list[Raw] | None:
    """All items of the conversation that `previous` ends, oldest first; None if any of it is missing."""
    answers = lineage(previous, recalled)
    if answers is None:
        return None
    return [item for kept in answers for item in (*input_items(kept), *output_items(kept))]


def output_items(kept: Kept) -> list[Raw]:
    """Items that the model has made."""
    return _output_decoder.decode(kept.response).output


def input_items(kept: Kept) -> list[Raw]:
    """Items of the request, complete: with an id, a type, and texts as parts."""
    digits = kept.id.removeprefix(RESPONSE_PREFIX)
    seen: set[str] = set()
    return [
        _completed(item, f"{digits}i{index:02x}", seen) for index, item in enumerate(_raws_decoder.decode(kept.input))
    ]


def text_as_items(text: Raw) -> bytes:
    """The items that a plain string in `input` stands for."""
    return b'[{"role":"user","content":' + bytes(text) + b"}]"


def _completed(item: Raw, name: str, seen: set[str]) -> Raw:
    """seen: ids that other items have, of which one that was referred to twice would be another."""
    fields = _item_decoder.decode(item)
    kind = _text(fields.get("type", Raw())) or "message"
    made: dict[str, Any] = {"type": kind, **fields}
    given = _text(fields.get("id", Raw()))
    if given is None or given in seen:
        made["id"] = given = f"{_ID_PREFIXES.get(kind, 'item')}_{name}"
    seen.add(given)
    if kind == "message":
        made.setdefault("status", "completed")
        if kind_of(fields.get("content", Raw())) == "string":
            assistant = _text(fields.get("role", Raw())) == "assistant"
            part = {"type": "output_text" if assistant else "input_text", "text": fields["content"]}
            made["content"] = [{**part, "annotations": []} if assistant else part]
    elif kind.endswith(("_call", "_call_output")):
        made.setdefault("status", "completed")
    return Raw(msgspec.json.encode(made))


_ID_PREFIXES = {
    "message": "msg",
    "function_call": "fc",
    "function_call_output": "fco",
    "custom_tool_call": "ctc",
    "custom_tool_call_output": "ctco",
    "reasoning": "rs",
}


def _text(raw: Raw) -> str | None:
    return msgspec.json.decode(raw, type=str) if kind_of(raw) == "string" else None
