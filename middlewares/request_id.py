"""Names each request: the client's `X-Request-ID` if it is well formed, else 8 hex digits.

Writes REQUEST_ID, the id in RECORD, and the log's context. The response header is set by a signal of the application
(`app.py`): a header added here, after the handler, would never reach a streamed answer.
"""

import re
from collections.abc import Awaitable

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from sai_proxy.http.ids import random_hex
from sai_proxy.keys import RECORD, REQUEST_ID
from sai_proxy.telemetry.logs import current_request_id

WELL_FORMED = re.compile(r"[A-Za-z0-9._-]{1,64}")


def choose_request_id(request: web.BaseRequest) -> str:
    """The client's own, if it is well formed, else 8 hex digits, as the predecessor's."""
    given = request.headers.get("X-Request-ID")
    return given if given is not None and WELL_FORMED.fullmatch(given) else random_hex(8)


def request_id_middleware() -> Middleware:
    @web.middleware
    def request_id(request: web.Request, handler: Handler) -> Awaitable[web.StreamResponse]:
        request[REQUEST_ID] = request[RECORD].request_id = chosen = choose_request_id(request)
        current_request_id.set(chosen)  # no reset: aiohttp gives each request a task and a context of its own
        return handler(request)

    return request_id
