"""What a browser may open: the OpenAPI document, and a page that renders it.

The page is Swagger UI from a package of its own, served from here: the networks that this server
lives in reach no CDN.
"""

import asyncio
from collections.abc import Iterable

import msgspec
import swagger_ui_bundle
from aiohttp import web

from sai_proxy import __version__
from sai_proxy.openai_api.openapi import Welcome, openapi_document

_UI = swagger_ui_bundle.swagger_ui_path
_ASSETS = {"swagger-ui.css": "text/css", "swagger-ui-bundle.js": "text/javascript", "favicon-32x32.png": "image/png"}

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>sai-proxy</title>
<link rel="icon" href="docs/favicon-32x32.png">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="ui"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""

_START = """SwaggerUIBundle({
  url: "openapi.json", dom_id: "#ui", deepLinking: true, tryItOutEnabled: true, validatorUrl: null,
});
"""

_CACHE = {"Cache-Control": "public, max-age=3600"}
_POLICY = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; "
    "frame-ancestors 'none'"
}


def welcome_body() -> bytes:
    """What `/` says to clients that are no browsers."""
    return msgspec.json.encode(Welcome("sai-proxy", __version__, docs="/docs", openapi="/openapi.json"))


def add_pages(app: web.Application, models: Iterable[str]) -> None:
    """Routes of the pages. models: names that are served, for the document's examples."""
    document = msgspec.json.encode(openapi_document(models))

    async def get_document(_: web.Request) -> web.Response:
        return web.Response(body=document, content_type="application/json")

    app.router.add_get("/openapi.json", get_document)
    app.router.add_get("/docs", _get_page)
    app.router.add_get("/docs/start.js", _get_start)
    app.router.add_get("/docs/{asset}", _get_asset)


async def _get_page(_: web.Request) -> web.Response:
    return web.Response(text=_PAGE, content_type="text/html", headers=_POLICY)


async def _get_start(_: web.Request) -> web.Response:
    return web.Response(text=_START, content_type="text/javascript", headers=_CACHE)


async def _get_asset(request: web.Request) -> web.StreamResponse:
    name = request.match_info["asset"]
    if name not in _ASSETS:
        raise web.HTTPNotFound
    if "Range" in request.headers:  # of a bad one aiohttp's answer would have no body
        body = await asyncio.to_thread((_UI / name).read_bytes)
        return web.Response(body=body, headers={**_CACHE, "Content-Type": _ASSETS[name]})
    return web.FileResponse(_UI / name, chunk_size=16 * 1024, headers={**_CACHE, "Content-Type": _ASSETS[name]})
