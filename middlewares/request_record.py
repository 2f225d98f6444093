"""Keeps a record of each request; when it ends, that makes its one log line and its metrics.

Writes RECORD, which every other layer fills. Stands outermost, so that the status
it reports is the one that went out.
"""

import asyncio
import logging
from collections.abc import Sequence
from time import monotonic

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from sai_proxy.http.client_address import Network, client_address
from sai_proxy.keys import RECORD
from sai_proxy.telemetry.metrics import Metrics
from sai_proxy.telemetry.recent import Recent
from sai_proxy.telemetry.record import CLIENT_CLOSED_REQUEST, CLIENT_STALLED, PROBES, RequestRecord
from sai_proxy.telemetry.request_line import log_request

MAX_USER_AGENT_CHARS = 200


def request_record_middleware(
    metrics: Metrics, trusted_proxies: Sequence[Network] = (), recent: Recent | None = None
) -> Middleware:
    """recent: where the home page looks. trusted_proxies: networks of proxies whose word counts about the client's
    address. Health probes and scrapes are logged at DEBUG: eight replicas' would bury the rest."""

    def end(request: web.Request, record: RequestRecord, status: int, now: float) -> None:
        metrics.observe(record, route=route_of(request), status=status, duration_s=now - record.started)
        record.method, record.path, record.status = request.method, request.path, status
        record.complete(now)
        if recent is not None and record.admitted:
            recent.add(record)
        log_request(record, logging.DEBUG if status == 200 and record.path.startswith(PROBES) else logging.INFO)

    @web.middleware
    async def request_record(request: web.Request, handler: Handler) -> web.StreamResponse:
        record = request[RECORD] = RequestRecord(started=monotonic())
        record.client = client_address(request.remote, request.headers, trusted_proxies)
        record.user_agent = (request.headers.get("User-Agent") or "")[:MAX_USER_AGENT_CHARS] or None
        status = 500
        try:
            response = await handler(request)
        except (asyncio.CancelledError, ConnectionError):
            record.client_disconnected = True
            if getattr(request.protocol, "write_stalled", False):
                record.error, record.fault = CLIENT_STALLED, "caller"
            status = CLIENT_CLOSED_REQUEST
            raise
        else:
            status = response.status
            return response
        finally:
            end(request, record, status, monotonic())

    return request_record


def route_of(request: web.Request) -> str:
    """The template of the request's route, so that metrics and spans have few of them."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "unknown"
