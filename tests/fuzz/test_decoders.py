"""Decoders of SAI's bodies: however the network cuts them, they say the same."""

import codecs
import gzip
import json
import zlib
from collections.abc import Callable, Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sai_proxy.errors import ProxyError
from sai_proxy.sai_api.inflate import body_decoder
from sai_proxy.sai_api.text import text_decoder
from tests.fuzz.mutations import SHARE, cut, mutated_bytes

MANY = 500 * SHARE
FAILED = "failed"
BYTE_ORDER_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def bare_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def two_members(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0) + gzip.compress(data[::-1], mtime=0)


PACKERS: list[Callable[[bytes], bytes]] = [
    lambda data: gzip.compress(data, mtime=0),
    zlib.compress,
    bare_deflate,
    two_members,
    bytes,
]
packed = st.builds(lambda pack, data: pack(data), st.sampled_from(PACKERS), st.binary(max_size=200))


def inflated(encoding: str, pieces: Sequence[bytes]) -> bytes | str:
    decoder, out = body_decoder(encoding), b""
    try:
        for piece in pieces:
            out += decoder.feed(piece)
            while decoder.pending:
                out += decoder.feed(b"")
        decoder.end()
    except ProxyError:
        return FAILED
    return out


@settings(max_examples=MANY)
@given(
    st.sampled_from(["", "identity", "gzip", "x-gzip", "deflate"]),
    (packed | packed.flatmap(mutated_bytes)).flatmap(cut),
)
@example("gzip", [b"\x1f", b"\x8b"])
@example("gzip", [b"\x1f"])
@example("deflate", [b"x", b"\x9c\x03\x00\x00\x00\x00\x01"])
def test_a_body_inflates_to_the_same_however_it_is_cut(encoding: str, pieces: list[bytes]) -> None:
    assert inflated(encoding, pieces) == inflated(encoding, [b"".join(pieces)])


@settings(max_examples=MANY)
@given(st.sampled_from(["gzip", "deflate"]), st.sampled_from(PACKERS[:3]), st.binary(max_size=300), st.data())
def test_what_is_packed_comes_out_again(
    encoding: str, pack: Callable[[bytes], bytes], data: bytes, more: st.DataObject
) -> None:
    assert inflated(encoding, more.draw(cut(pack(data)))) == data


def decoded(content_type: str, pieces: Sequence[bytes]) -> str | None:
    decoder = text_decoder(content_type)
    try:
        return "".join([*map(decoder.feed, pieces), decoder.end()])
    except ProxyError:
        return None


CHARSETS = [
    "",
    "utf-8",
    "utf-16",
    "utf-16-le",
    "utf-16-be",
    "latin-1",
    "cp1252",
    "ascii",
    "iso-8859-15",
    "utf-7",
    "idna",
    "no",
]
content_types = st.builds(
    lambda media, charset: f"{media}; charset={charset}" if charset else media,
    st.sampled_from(["text/plain", "application/json", "text/html", "", "application/json "]),
    st.sampled_from(CHARSETS),
)
texts = st.text(max_size=30) | st.text(alphabet='"\\u d8/0nx', max_size=30)
encoded = st.one_of(
    texts.map(lambda text: text.encode("utf-8", "surrogatepass")),
    texts.map(lambda text: json.dumps(text).encode()),
    texts.map(lambda text: json.dumps(text).encode("utf-16")),
    st.binary(max_size=40),
)


@settings(max_examples=MANY)
@given(content_types, (encoded | encoded.flatmap(mutated_bytes)).flatmap(cut))
@example("application/json", [b'"\\ud83d', b'\\ude00"'])
@example("application/json", [b'"\\ud83d\\', b'n"'])
@example("text/plain; charset=utf-16", [b"\xff", b"\xfe", b"a", b"\0"])
@example("text/plain; charset=utf-16-le", [b"\x00", b"\xd8"])
def test_a_text_is_the_same_however_it_is_cut(content_type: str, pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    assert decoded(content_type, pieces) == decoded(content_type, [whole])


@pytest.mark.parametrize("body", ["hi".encode("utf-16-be"), "hi".encode("utf-16-le"), b"\xfe\xfe"])
def test_utf_16_without_a_byte_order_mark_is_text(body: bytes) -> None:
    assert decoded("text/plain; charset=utf-16", [body]) is not None


@settings(max_examples=MANY)
@given(st.text(max_size=60, alphabet=st.characters(exclude_categories=["Cs"])), st.booleans(), st.data())
def test_a_quoted_string_comes_out_again(text: str, ascii_only: bool, data: st.DataObject) -> None:
    body = json.dumps(text, ensure_ascii=ascii_only).encode()
    assert decoded("application/json", data.draw(cut(body))) == text
