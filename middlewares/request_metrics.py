"""Counts each request when it ends.

Reads RECORD and the route. Stands inside request-log, which makes the record, and outside
error-mapping, so that the status it counts is the one that went out.
"""

import asyncio

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from sai_proxy.keys import RECORD
from sai_proxy.metrics import Metrics

CLIENT_CLOSED_REQUEST = 499


def request_metrics_middleware(metrics: Metrics) -> Middleware:
    """Counts into `metrics`."""

    @web.middleware
    async def request_metrics(request: web.Request, handler: Handler) -> web.StreamResponse:
        now = asyncio.get_running_loop().time
        record = request[RECORD]
        resource = request.match_info.route.resource
        route = resource.canonical if resource is not None else "unknown"
        status = CLIENT_CLOSED_REQUEST
        metrics.requests_in_flight.inc()
        try:
            response = await handler(request)
            if not record.client_disconnected:
                status = response.status
        except (asyncio.CancelledError, ConnectionError):
            record.client_disconnected = True
            raise
        except Exception:
            status = 500
            raise
        else:
            return response
        finally:
            metrics.requests_in_flight.dec()
            metrics.observe(record, route=route, status=status, duration_s=now() - record.started)

    return request_metrics
