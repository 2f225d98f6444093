"""Makes each request a span, if tracing is on; otherwise this layer is not in the chain.

Reads RECORD and the route. Stands where request-metrics does, for the same reason.
"""

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from sai_proxy.keys import RECORD
from sai_proxy.tracing import Tracing


def request_tracing_middleware(tracing: Tracing) -> Middleware:
    """Spans go to `tracing`."""

    @web.middleware
    async def request_tracing(request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        route = resource.canonical if resource is not None else "unknown"
        with tracing.server_span(request.method, route, request.headers, request[RECORD]) as end:
            response = await handler(request)
            end(response.status)
            return response

    return request_tracing
