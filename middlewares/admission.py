"""Lets a request in, if there is room for it, and gives back what it held however it ends.

Writes HOLDING; raises ServerBusy and CrossSite. Stands before everything that costs, first of the layers
around what asks SAI. It is also where a request begins to count as in flight.
"""

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from sai_proxy.errors import CrossSite
from sai_proxy.http.admission import Admission
from sai_proxy.keys import HOLDING, RECORD

SIMPLE_TYPES = ("", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data")
"""What a browser sends to any site without asking it first (the Fetch standard's safelist)."""


def admission_middleware(admission: Admission, origins: frozenset[str] = frozenset()) -> Middleware:
    """origins: of web pages that may use this server, `*` for any. A page of another one could spend its
    quota: browsers ask before they send JSON, but not before they send a form or plain text."""

    def is_cross_site(request: web.Request, origin: str) -> bool:
        if origin in origins or "*" in origins:
            return False
        return request.content_type in SIMPLE_TYPES or request.headers.get("Content-Type") is None

    @web.middleware
    async def admit(request: web.Request, handler: Handler) -> web.StreamResponse:
        origin = request.headers.get("Origin")
        if origin is not None and is_cross_site(request, origin):
            raise CrossSite({"origin": origin[:100]})
        holding = request[HOLDING] = admission.enter()
        request[RECORD].admitted = True
        try:
            return await handler(request)
        finally:
            holding.close()

    return admit
