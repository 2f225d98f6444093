"""What is nearly right: valid things, changed in a few places."""

import json
import os
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "ordinary")
SHARE = {"ordinary": 1, "thorough": 50}[PROFILE]
"""How many times an ordinary run's examples are tried."""

Draw = Callable[[st.SearchStrategy[Any]], Any]

ODD_NUMBERS = [0, -1, 1.5, 1e400, -0.0, 2**31, 2**63, 2**64, 10**40]
ODD_TEXTS = ["", "\0", "\ud800", "\U0010ffff", "null", "[DONE]", "data: x\n\n", "{n}", "%s", "x" * 300]

leaves = st.one_of(
    st.none(), st.booleans(), st.sampled_from(ODD_NUMBERS), st.integers(), st.floats(), st.sampled_from(ODD_TEXTS)
)
values = st.recursive(
    leaves | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to each value in a JSON document, its own first."""
    found = [path]
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        found += places(item, (*path, key))
    return found


def changed(document: Any, path: tuple[Any, ...], change: str, value: Any) -> Any:
    """`document` with the value at `path` replaced, removed, or in a list."""
    if not path:
        return value
    copy = json.loads(json.dumps(document))
    at = copy
    for key in path[:-1]:
        at = at[key]
    match change:
        case "replace":
            at[path[-1]] = value
        case "remove":
            del at[path[-1]]
        case "wrap":
            at[path[-1]] = [at[path[-1]]]
    return copy


@st.composite
def mutated_json(draw: Draw, document: Any) -> bytes:
    """A JSON document with some of its values changed, as bytes, and now and then with some of those changed."""
    for _ in range(draw(st.integers(0, 3))):
        path = draw(st.sampled_from(places(document)))
        document = changed(document, path, draw(st.sampled_from(["replace", "remove", "wrap"])), draw(values))
        if not isinstance(document, dict | list):
            break
    text = json.dumps(document, ensure_ascii=draw(st.booleans()))
    data = text.encode("utf-8", "surrogatepass")
    return draw(mutated_bytes(data)) if draw(st.integers(0, 3)) == 0 else data


@st.composite
def mutated_bytes(draw: Draw, data: bytes, alphabet: tuple[bytes, ...] = ()) -> bytes:
    """Bytes of which some are removed, doubled, or replaced, by some of `alphabet` or by any."""
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 8)))
        fill = st.binary(max_size=6)
        filling = draw(st.one_of(st.just(b""), st.just(data[start:end] * 2), fill, *map(st.just, alphabet)))
        data = data[:start] + filling + data[end:]
    return data


@st.composite
def cut(draw: Draw, data: bytes) -> list[bytes]:
    """The same bytes in pieces."""
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=6)))
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
