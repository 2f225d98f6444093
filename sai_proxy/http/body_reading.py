"""A request's body, off its connection and into memory, within the limits of size, time and admission."""

import asyncio

from aiohttp import web

from sai_proxy import errors
from sai_proxy.http.admission import Holding
from sai_proxy.http.draining import Lifecycle
from sai_proxy.telemetry.record import RequestRecord


def body_at_hand(request: web.Request, holding: Holding, *, max_bytes: int) -> bytes | None:
    """All of it, accounted for, if it has come with the head, as most do: waiting would cost more than the reading.
    Raises ProxyError."""
    encoding = request.headers.get("Content-Encoding")
    if encoding is not None and encoding.strip().lower() not in ("", "identity"):
        raise errors.UnsupportedMediaType({"encoding": encoding[:50]})
    content = request.content
    if not content.is_eof():
        return None
    try:
        body = content.read_nowait()
    except web.RequestPayloadError as exc:
        raise errors.MalformedHttp(detail=type(exc).__name__) from exc
    _admit(len(body), len(body), holding, max_bytes)
    return body


async def read_body(
    request: web.Request,
    holding: Holding,
    record: RequestRecord,
    lifecycle: Lifecycle,
    *,
    max_bytes: int,
    timeout_s: float,
) -> bytearray:
    """All of one that is not at hand, accounted for as it arrives. Raises ProxyError."""
    if (request.content_length or 0) > max_bytes:
        raise errors.BodyTooLarge({"limit": max_bytes})
    try:
        with lifecycle.running():
            return await _read_as_it_comes(request, holding, record, max_bytes, timeout_s)
    except web.RequestPayloadError as exc:
        raise errors.MalformedHttp(detail=type(exc).__name__) from exc


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
                await asyncio.sleep(0)  # what has been parsed meanwhile would not make this wait, nor let others run
    except TimeoutError as exc:
        raise errors.BodyTimeout({"seconds": f"{timeout_s:g}"}) from exc
    finally:
        record.upload_s = now() - started
    return body


def _admit(more: int, size: int, holding: Holding, max_bytes: int) -> None:
    if size > max_bytes:
        raise errors.BodyTooLarge({"limit": max_bytes})
    holding.grow(more)
