import pytest
from hypothesis import given
from hypothesis import strategies as st

from sai_proxy.conversation.stop_sequences import TextEnd


def cut(pieces: list[str], stops: tuple[str, ...] = (), max_chars: int | None = None) -> tuple[str, str | None]:
    cutter = TextEnd(stops, max_chars)
    out = ""
    for piece in pieces:
        out += cutter.feed(piece)
        if cutter.finish_reason:
            return out, cutter.finish_reason
    return out + cutter.end(), cutter.finish_reason


@pytest.mark.parametrize(
    ("text", "stops", "max_chars", "expected"),
    [
        ("hello", (), None, ("hello", None)),
        ("one END two", ("END",), None, ("one ", "stop")),
        ("END", ("END",), None, ("", "stop")),
        ("one EN", ("END",), None, ("one EN", None)),
        ("aab", ("ab",), None, ("a", "stop")),
        ("ababac", ("abac",), None, ("ab", "stop")),
        ("abc", ("abc", "b"), None, ("a", "stop")),
        ("xabc", ("bc", "abc"), None, ("x", "stop")),
        ("one\n\ntwo", ("\n\n", "\n"), None, ("one", "stop")),
        ("😀😀😀", (), 2, ("😀😀", "length")),
        ("abcd", (), 4, ("abcd", None)),
        ("abcde", (), 4, ("abcd", "length")),
        ("abcdX", ("X",), 4, ("abcd", "stop")),
        ("abcdeX", ("X",), 4, ("abcd", "length")),
        ("abX", ("XY",), 2, ("ab", "length")),
        ("", (), 1, ("", None)),
    ],
)
def test_a_text_ends_where_its_client_wants(
    text: str, stops: tuple[str, ...], max_chars: int | None, expected: tuple[str, str | None]
) -> None:
    assert cut([text], stops, max_chars) == expected
    assert cut(list(text), stops, max_chars) == expected


@given(
    st.lists(st.text("ab\n", max_size=5), max_size=8),
    st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=3),
    st.none() | st.integers(1, 12),
)
def test_the_cut_does_not_depend_on_the_pieces(pieces: list[str], stops: list[str], max_chars: int | None) -> None:
    assert cut(pieces, tuple(stops), max_chars) == cut(["".join(pieces)], tuple(stops), max_chars)


@given(st.text("ab", max_size=12), st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=3))
def test_only_what_could_become_a_stop_string_is_held_back(text: str, stops: list[str]) -> None:
    cutter = TextEnd(tuple(stops))
    out = cutter.feed(text)
    held = "" if cutter.finish_reason else text[len(out) :]
    assert not held or any(stop.startswith(held) and stop != held for stop in stops)
