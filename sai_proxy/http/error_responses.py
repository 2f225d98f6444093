"""Error responses, and aiohttp's own refusals translated into errors of ours."""

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


def from_http_exception(exc: web.HTTPException, request: web.BaseRequest) -> errors.ProxyError:
    """What aiohttp meant by a refusal of its own (404, 405, 413, 417, ...)."""
    where = {"method": request.method, "path": request.path[:_MAX_PATH]}
    if isinstance(exc, web.HTTPMethodNotAllowed):
        return errors.MethodNotAllowed({**where, "allowed": ", ".join(sorted(exc.allowed_methods))})
    if isinstance(exc, web.HTTPNotFound):
        return errors.UnknownUrl(where)
    if isinstance(exc, web.HTTPRequestEntityTooLarge):
        return errors.BodyTooLarge({"limit": "?"})
    if exc.status < 500:
        return errors.MalformedHttp(detail=exc.reason)
    return errors.InternalError(detail=exc.reason)
