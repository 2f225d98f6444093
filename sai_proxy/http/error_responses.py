"""Error responses, and aiohttp's own refusals translated into errors of ours."""

import re

from aiohttp import web

from sai_proxy import errors
from sai_proxy.errors.table import ErrorForm
from sai_proxy.openai_api.error_body import error_body

SERVER_NAME = "sai-proxy"
"""For the `Server` header; aiohttp's own names versions."""

_MAX_PATH = 200


def error_response(form: ErrorForm) -> web.Response:
    """A response in OpenAI's error form."""
    return web.Response(
        status=form.status, body=error_body(form), content_type="application/json", headers=form.headers
    )


_ENDPOINT = re.compile(r"(?:^|/)(chat/completions|completions|responses|models(?:/[^/]+)?)/*$")
_BASES = ("", "/v1", "/api", "/api/v1", "/v1/v1")


def hint_facts(path: str) -> dict[str, str]:
    """Facts for a URL that nobody serves: the right one, where it can be told."""
    found = _ENDPOINT.search(path)
    right = f"/v1/{found[1]}" if found else "/v1/chat/completions" if path.rstrip("/") in _BASES else ""
    if not right or right == path.rstrip("/"):
        return {}
    return {
        "hint_es": f": prueba {right} (la URL base termina en /v1)",
        "hint_en": f". Try {right}: the base URL ends in /v1",
    }


def from_http_exception(exc: web.HTTPException, request: web.BaseRequest) -> errors.ProxyError:
    """What aiohttp meant by a refusal of its own (404, 405, 413, 417, ...)."""
    where = {"method": request.method, "path": request.path[:_MAX_PATH]}
    if isinstance(exc, web.HTTPMethodNotAllowed):
        return errors.MethodNotAllowed({**where, "allowed": ", ".join(sorted(exc.allowed_methods))})
    if isinstance(exc, web.HTTPNotFound):
        return errors.UnknownUrl({**where, **hint_facts(request.path)})
    if isinstance(exc, web.HTTPRequestEntityTooLarge):
        return errors.BodyTooLarge({"limit": "?"})
    if exc.status < 500:
        return errors.MalformedHttp(detail=exc.reason)
    return errors.InternalError(detail=exc.reason)
