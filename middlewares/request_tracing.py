"""Makes each request but probes a span, if tracing is on; otherwise this layer is not in the chain.

Reads RECORD and the route. Stands inside request-record, which makes the record, and outside
error-mapping, so that the status in the span is the one that went out.
"""

import asyncio

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from sai_proxy.keys import RECORD
from sai_proxy.telemetry.record import CLIENT_CLOSED_REQUEST, PROBES
from sai_proxy.telemetry.tracing import Tracing


def request_tracing_middleware(tracing: Tracing) -> Middleware:
    """Spans go to `tracing`."""

    @web.middleware
    async def request_tracing(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith(PROBES):
            return await handler(request)
        route = request.match_info.route.resource
        template = route.canonical if route is not None else None
        with tracing.server_span(
            request.method, template, request.rel_url.raw_path, request.headers, request[RECORD]
        ) as end:
            status = 500
            try:
                response = await handler(request)
            except (asyncio.CancelledError, ConnectionError):
                status = CLIENT_CLOSED_REQUEST
                raise
            else:
                status = response.status
                return response
            finally:
                end(status)

    return request_tracing
