"""Content codings of an answer's body, undone piece by piece. Pure.

By hand, because a truncated gzip stream must not pass for a finished answer, which aiohttp's own
decompression does not tell, and because a small body may inflate to any size.
"""

import zlib
from typing import Protocol

from sai_proxy.errors import UpstreamProtocolError

MAX_PIECE_BYTES = 256 * 1024


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
    """gzip and zlib streams, told apart by their first bytes."""

    def __init__(self) -> None:
        self._inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
        self._started = False

    @property
    def pending(self) -> bool:
        return bool(self._inflater.unconsumed_tail)

    def feed(self, data: bytes) -> bytes:
        self._started = self._started or bool(data)
        try:
            inflated = self._inflater.decompress(self._inflater.unconsumed_tail + data, MAX_PIECE_BYTES)
        except zlib.error as exc:
            raise UpstreamProtocolError(detail=f"malformed compressed body: {exc}") from exc
        if self._inflater.unused_data:
            raise UpstreamProtocolError(detail="bytes after the end of a compressed body")
        return inflated

    def end(self) -> None:
        if self._started and not self._inflater.eof:
            raise UpstreamProtocolError(detail="a compressed body ended too early")
