"""One wide log line a request, when it ends.

Reads RECORD, which it creates and every other layer fills, and REQUEST_ID. Stands outermost, so
that the status it reports is the one that went out.
"""

import asyncio
import logging

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from sai_proxy.keys import RECORD, REQUEST_ID
from sai_proxy.record import RequestRecord

CLIENT_CLOSED_REQUEST = 499
"""nginx' status for a client that left before its answer was complete; it is only ever logged."""

logger = logging.getLogger(__name__)


def request_log_middleware() -> Middleware:
    """Health probes are logged at DEBUG: eight replicas' probes would bury the rest."""

    @web.middleware
    async def request_log(request: web.Request, handler: Handler) -> web.StreamResponse:
        now = asyncio.get_running_loop().time
        record = request[RECORD] = RequestRecord(started=now())
        status = CLIENT_CLOSED_REQUEST
        try:
            response = await handler(request)
        except (asyncio.CancelledError, ConnectionError):
            record.client_disconnected = True
            raise
        except Exception:
            status = 500
            raise
        else:
            if not record.client_disconnected:
                status = response.status
            return response
        finally:
            level = logging.DEBUG if request.path.startswith("/health") and status == 200 else logging.INFO
            logger.log(
                level,
                "request",
                extra={
                    "request_id": request.get(REQUEST_ID),
                    "method": request.method,
                    "path": request.path,
                    "client": request.remote,
                    "status": status,
                    **record.as_fields(now()),
                },
            )

    return request_log
