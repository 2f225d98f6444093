"""The page at `/`: what answers, how to connect a client, a chat, and the figures of this replica.

A browser gets the page, any other client JSON. It is made of files beside this module, and loads nothing from
elsewhere. Its figures hold neither texts nor keys, and are behind the access tokens where there are any.
"""

import hmac
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from sai_proxy.errors import AccessTokenRequired

HOME = Path(__file__).parent / "home"
_ASSETS = {
    "home.css": "text/css",
    "home.js": "text/javascript",
    "texts.js": "text/javascript",
    "uPlot.min.css": "text/css",
    "uPlot.iife.min.js": "text/javascript",
    "uPlot.LICENSE": "text/plain",
}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Vary": "Accept, Accept-Language",
}
_CACHE = {"Cache-Control": "public, max-age=3600", "X-Content-Type-Options": "nosniff"}


def add_home_page(
    app: web.Application,
    welcome: bytes,
    server: Callable[[], dict[str, Any]],
    figures: Callable[[], dict[str, Any]],
    access_tokens: frozenset[str],
) -> None:
    """welcome: JSON for clients that are no browsers. server: what the page says of it. figures: of this replica."""
    page = (HOME / "index.html").read_text(encoding="utf-8")
    assets = {name: (HOME / name).read_bytes() for name in _ASSETS}

    async def get_home(request: web.Request) -> web.Response:
        if "text/html" not in request.headers.get("Accept", ""):
            return web.Response(body=welcome, content_type="application/json", headers={"Vary": "Accept"})
        text = page.replace("{{lang}}", preferred_language(request.headers.get("Accept-Language", "")))
        return web.Response(text=text, content_type="text/html", headers=_HEADERS)

    async def get_asset(request: web.Request) -> web.Response:
        name = request.match_info["asset"]
        if name not in assets:
            raise web.HTTPNotFound
        return web.Response(body=assets[name], headers={**_CACHE, "Content-Type": f"{_ASSETS[name]}; charset=utf-8"})

    async def get_server(_: web.Request) -> web.Response:
        return web.Response(body=msgspec.json.encode(server()), content_type="application/json")

    async def get_figures(request: web.Request) -> web.Response:
        if access_tokens and not _holds_one(request, access_tokens):
            raise AccessTokenRequired
        body = msgspec.json.encode(figures())
        return web.Response(body=body, content_type="application/json", headers={"Cache-Control": "no-store"})

    app.router.add_get("/", get_home)
    app.router.add_get("/home/server.json", get_server)
    app.router.add_get("/home/figures.json", get_figures)
    app.router.add_get("/home/{asset}", get_asset)


def preferred_language(accepted: str) -> str:
    """`es` or `en`, whichever the browser's user names first; `es` for neither. Source: RFC 9110, 12.5.4, of which
    weights are read, too."""
    weighed: list[tuple[float, int, str]] = []
    for position, item in enumerate(accepted.split(",")[:20]):
        tag, _, parameters = item.strip().partition(";")
        language = tag.split("-")[0].lower()
        if language in ("es", "en"):
            weighed.append((-_weight(parameters), position, language))
    return min(weighed)[2] if weighed else "es"


def _weight(parameters: str) -> float:
    name, _, value = parameters.strip().partition("=")
    try:
        return float(value) if name == "q" else 1.0
    except ValueError:
        return 0.0


def _holds_one(request: web.Request, tokens: frozenset[str]) -> bool:
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    sent = given.strip().encode("utf-8", "surrogateescape")
    return scheme.lower() == "bearer" and any(hmac.compare_digest(sent, token.encode()) for token in tokens)
