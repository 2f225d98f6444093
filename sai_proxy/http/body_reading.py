"""A request's body, off its connection and into memory, within the limits of size, time and admission."""

import asyncio

from aiohttp import web

from sai_proxy import errors
from sai_proxy.http.admission import Holding
from sai_proxy.http.draining import Lifecycle
from sai_proxy.telemetry.record import RequestRecord


async def read_body(
    request: web.Request,
    holding: Holding,
    record: RequestRecord,
    lifecycle: Lifecycle,
    *,
    max_bytes: int,
    timeout_s: float,
) -> bytes | bytearray:
    """All of it, accounted for as it arrives. Raises ProxyError."""
    encoding = request.headers.get("Content-Encoding", "identity")
    if encoding.strip().lower() not in ("", "identity"):
        raise errors.UnsupportedMediaType({"encoding": encoding[:50]})
    if (request.content_length or 0) > max_bytes:
        raise errors.BodyTooLarge({"limit": max_bytes})
    try:
        if not request.content.is_eof():
            with lifecycle.running():
                return await _read_as_it_comes(request, holding, record, max_bytes, timeout_s)
        body = request.content.read_nowait()  # all of it is here: a timer would cost more than the reading
    except web.RequestPayloadError as exc:
        raise errors.MalformedHttp(detail=type(exc).__name__) from exc
    _admit(len(body), len(body), holding, max_bytes)
    return body


async def _read_as_it_comes(
    request: web.Request, holding: Holding, record: RequestRecord, max_bytes: int, timeout_s: float
) -> bytearray:
    now = asyncio.get_running_loop().time
    started = now()
    body = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            while piece := await request.content.readany():
                _admit(len(piece), len(body) + len(piece), holding, max_bytes)
                body += piece
    except TimeoutError as exc:
        raise errors.BodyTimeout({"seconds": f"{timeout_s:g}"}) from exc
    finally:
        record.upload_s = now() - started
    return body


def _admit(more: int, size: int, holding: Holding, max_bytes: int) -> None:
    if size > max_bytes:
        raise errors.BodyTooLarge({"limit": max_bytes})
    holding.grow(more)
