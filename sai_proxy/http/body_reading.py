"""A request's body, off its connection and into memory, within the limits of size, time and budget."""

import asyncio

from aiohttp import web

from sai_proxy import errors
from sai_proxy.http.admission import BodyAccount
from sai_proxy.telemetry.record import RequestRecord


async def read_body(
    request: web.Request, account: BodyAccount, record: RequestRecord, *, max_bytes: int, timeout_s: float
) -> bytes:
    """All of it, accounted for as it arrives. Raises ProxyError."""
    encoding = request.headers.get("Content-Encoding", "identity")
    if encoding.strip().lower() not in ("", "identity"):
        raise errors.UnsupportedMediaType({"encoding": encoding[:50]})
    if (request.content_length or 0) > max_bytes:
        raise errors.BodyTooLarge({"limit": max_bytes})
    try:
        if not request.content.is_eof():
            return await _read_as_it_comes(request, account, record, max_bytes, timeout_s)
        body = request.content.read_nowait()  # all of it is here: a timer would cost more than the reading
    except web.RequestPayloadError as exc:
        raise errors.MalformedHttp(detail=type(exc).__name__) from exc
    _admit(len(body), account, max_bytes)
    return body


async def _read_as_it_comes(
    request: web.Request, account: BodyAccount, record: RequestRecord, max_bytes: int, timeout_s: float
) -> bytes:
    now = asyncio.get_running_loop().time
    started = now()
    pieces: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(timeout_s):
            while piece := await request.content.readany():
                size += len(piece)
                _admit(size, account, max_bytes)
                pieces.append(piece)
    except TimeoutError as exc:
        raise errors.BodyTimeout({"seconds": f"{timeout_s:g}"}) from exc
    finally:
        record.upload_s = now() - started
    return b"".join(pieces)


def _admit(size: int, account: BodyAccount, max_bytes: int) -> None:
    if size > max_bytes:
        raise errors.BodyTooLarge({"limit": max_bytes})
    account.grow_to(size)
