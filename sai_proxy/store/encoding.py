"""Kept answers as bytes: versioned, compressed, bounded. Pure."""

import zlib

import msgspec

from sai_proxy.openai_api.kept_responses import Kept

VERSION = b"\x01"
MAX_KEPT_BYTES = 4 * 1024 * 1024
"""Of one answer with what was new in its request, before compression."""

MAX_BLOB_BYTES = 2 * MAX_KEPT_BYTES
"""Of a value that was kept: more than any of ours has."""

_LEVEL = 1
"""Of compression: text becomes a third or less, and higher levels take several times as long for a little more."""

_decoder = msgspec.json.Decoder(Kept)


def size_of(kept: Kept) -> int:
    """Bytes before compression, near enough."""
    return len(kept.response) + len(kept.input) + sum(map(len, kept.ancestors))


def encode_kept(kept: Kept) -> bytes:
    """The bytes to keep of an answer."""
    return VERSION + zlib.compress(msgspec.json.encode(kept), _LEVEL)


def decode_kept(blob: bytes) -> Kept | None:
    """The answer in what was kept. None for bytes of another version, or none of ours."""
    if not blob.startswith(VERSION):
        return None
    try:
        inflater = zlib.decompressobj()
        text = inflater.decompress(blob[1:], 2 * MAX_KEPT_BYTES)
        return _decoder.decode(text) if inflater.eof else None
    except (zlib.error, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
