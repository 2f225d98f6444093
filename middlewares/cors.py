"""Lets browsers of named origins use the API: answers preflights, and marks every answer.

Reads `Origin`. Stands inside error-mapping and outside all else, so that errors too can be read by
a page. The headers are set by a signal (`cors_headers`): one added after the handler would never
reach a streamed answer.
"""

from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

ALLOWED_METHODS = "GET, POST, DELETE, OPTIONS"
EXPOSED_HEADERS = "x-request-id, x-sai-model, retry-after, retry-after-ms, x-should-retry"
PREFLIGHT_MAX_AGE_S = "7200"
"""The longest time that Chromium keeps a preflight's answer."""


def cors_middleware() -> Middleware:
    """Preflights for any path; whether the origin may go on is said by the headers alone."""

    @web.middleware
    async def cors(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
            return web.Response(status=204)
        return await handler(request)

    return cors


def cors_headers(origins: frozenset[str]) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """For `on_response_prepare`. `*` admits every origin, but never with credentials: any page could
    then act with what a browser has stored for this server."""
    everyone = "*" in origins

    async def add(request: web.Request, response: web.StreamResponse) -> None:
        origin = request.headers.get("Origin")
        if not everyone:
            response.headers.add("Vary", "Origin")
        if origin is None or not (everyone or origin in origins):
            return
        response.headers["Access-Control-Allow-Origin"] = "*" if everyone else origin
        if not everyone:
            response.headers["Access-Control-Allow-Credentials"] = "true"
        response.headers["Access-Control-Expose-Headers"] = EXPOSED_HEADERS
        if request.method == "OPTIONS":
            response.headers["Access-Control-Allow-Methods"] = ALLOWED_METHODS
            # named, since `*` would leave Authorization out
            response.headers["Access-Control-Allow-Headers"] = request.headers.get(
                "Access-Control-Request-Headers", "authorization, content-type"
            )
            response.headers["Access-Control-Max-Age"] = PREFLIGHT_MAX_AGE_S

    return add
