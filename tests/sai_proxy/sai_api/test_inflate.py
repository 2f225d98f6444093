import gzip
import zlib

import pytest

from sai_proxy.errors import UpstreamProtocolError
from sai_proxy.sai_api.inflate import MAX_PIECE_BYTES, body_decoder

TEXT = b"some text, and more " * 50


def decode(body: bytes, encoding: str, size: int) -> bytes:
    decoder, out = body_decoder(encoding), b""
    for at in range(0, len(body), size):
        out += decoder.feed(body[at : at + size])
        while decoder.pending:
            out += decoder.feed(b"")
    decoder.end()
    return out


@pytest.mark.parametrize("size", [1, 7, 10_000])
@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("", TEXT),
        ("identity", TEXT),
        ("gzip", gzip.compress(TEXT, mtime=0)),
        ("X-GZip", gzip.compress(TEXT, mtime=0)),
        ("deflate", zlib.compress(TEXT)),
    ],
)
def test_a_body_is_the_same_however_it_is_cut(encoding: str, body: bytes, size: int) -> None:
    assert decode(body, encoding, size) == TEXT


def test_an_empty_body_is_empty_whatever_its_coding() -> None:
    assert decode(b"", "gzip", 1) == b""


def test_a_bomb_comes_in_bounded_pieces() -> None:
    decoder = body_decoder("gzip")
    assert len(decoder.feed(gzip.compress(b"0" * 10_000_000))) == MAX_PIECE_BYTES
    assert decoder.pending


@pytest.mark.parametrize("body", [gzip.compress(TEXT, mtime=0)[:-1], b"plain", gzip.compress(TEXT, mtime=0) + b"x"])
def test_what_is_cut_or_no_such_coding_is_malformed(body: bytes) -> None:
    with pytest.raises(UpstreamProtocolError):
        decode(body, "gzip", 5)
