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

_SMALL_BYTES = 4 * 1024
_SMALL_WINDOW_BITS, _SMALL_MEMORY_LEVEL = 12, 4
"""A window of 4 KiB, and little else: zlib's usual 256 KiB take ten times as long to be made as to be used."""

_decoder = msgspec.json.Decoder(Kept)


def size_of(kept: Kept) -> int:
    """Bytes before compression, near enough."""
    return len(kept.response) + len(kept.input) + sum(map(len, kept.ancestors))


def encode_kept(kept: Kept) -> bytes:
    """The bytes to keep of an answer."""
    text = msgspec.json.encode(kept)
    if len(text) > _SMALL_BYTES:
        return VERSION + zlib.compress(text, _LEVEL)
    small = zlib.compressobj(_LEVEL, zlib.DEFLATED, wbits=_SMALL_WINDOW_BITS, memLevel=_SMALL_MEMORY_LEVEL)
    return VERSION + small.compress(text) + small.flush()


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
