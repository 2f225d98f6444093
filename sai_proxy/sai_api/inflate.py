"""Content codings of an answer's body, undone piece by piece. Pure.

By hand, because a truncated gzip stream must not pass for a finished answer, which aiohttp's own
decompression does not tell, and because a small body may inflate to any size.
"""

import zlib
from typing import Protocol

from sai_proxy.errors import UpstreamProtocolError

MAX_PIECE_BYTES = 64 * 1024

MAX_RATIO = 200
"""Of inflated bytes to received ones, from RATIO_FROM_BYTES on. Prose inflates to some five times its
size, lines that repeat to some fifty; zlib's limit, which bombs reach, is a thousand."""

RATIO_FROM_BYTES = 8 * 1024 * 1024

_GZIP_MAGIC = b"\x1f\x8b"


class BodyDecoder(Protocol):
    def feed(self, data: bytes) -> bytes:
        """What `data` becomes, at most MAX_PIECE_BYTES; call again with none while `pending`."""
        ...

    @property
    def pending(self) -> bool: ...
    def end(self) -> None:
        """Raises UpstreamProtocolError if the body ended too early."""
        ...


def body_decoder(content_encoding: str) -> BodyDecoder:
    """The decoder for a body with this Content-Encoding. Raises UpstreamProtocolError for one that
    was not asked for."""
    match content_encoding.strip().lower():
        case "" | "identity":
            return Identity()
        case "gzip" | "x-gzip" | "deflate":
            return Inflate()
    raise UpstreamProtocolError(detail=f"Content-Encoding {content_encoding[:50]!r} was not asked for")


class Identity:
    pending = False

    def feed(self, data: bytes) -> bytes:
        return data

    def end(self) -> None:
        return None


class Inflate:
    """gzip of one or several members, zlib, and the bare deflate that some servers send for it, told
    apart by their first bytes (RFC 1952, 1950, 1951)."""

    def __init__(self) -> None:
        self._held = b""
        self._inflater: zlib._Decompress | None = None
        self._gzip = False
        self._received = self._inflated = 0

    @property
    def pending(self) -> bool:
        return len(self._held) >= (len(_GZIP_MAGIC) if self._inflater is None else 1)

    def feed(self, data: bytes) -> bytes:
        self._received += len(data)
        self._held += data
        if self._inflater is None and not self._begin():
            return b""
        assert self._inflater is not None
        try:
            inflated = self._inflater.decompress(self._held, MAX_PIECE_BYTES)
        except zlib.error as exc:
            raise UpstreamProtocolError(detail=f"malformed compressed body: {exc}") from exc
        self._held = self._inflater.unconsumed_tail
        if self._inflater.eof:
            self._end_member(self._inflater.unused_data)
        self._inflated += len(inflated)
        if self._inflated > max(RATIO_FROM_BYTES, MAX_RATIO * (self._received - len(self._held))):
            raise UpstreamProtocolError(detail=f"a body that inflates to more than {MAX_RATIO} times its size")
        return inflated

    def end(self) -> None:
        if self._held or (self._inflater is not None and not self._inflater.eof):
            raise UpstreamProtocolError(detail="a compressed body ended too early")

    def _begin(self) -> bool:
        """Chooses the format, if enough is there to tell."""
        if len(self._held) < len(_GZIP_MAGIC):
            return False
        first, second = self._held[0], self._held[1]
        self._gzip = self._held.startswith(_GZIP_MAGIC)
        is_zlib = first & 0x0F == zlib.DEFLATED and (first << 8 | second) % 31 == 0
        wbits = zlib.MAX_WBITS | 16 if self._gzip else zlib.MAX_WBITS if is_zlib else -zlib.MAX_WBITS
        self._inflater = zlib.decompressobj(wbits)
        return True

    def _end_member(self, rest: bytes) -> None:
        if not rest:
            return
        if not (self._gzip and _GZIP_MAGIC.startswith(rest[:2])):
            raise UpstreamProtocolError(detail="bytes after the end of a compressed body")
        self._held, self._inflater = rest, None
