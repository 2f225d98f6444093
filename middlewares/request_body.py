"""Reads the body, for the layers inside to look at.

Writes BODY; raises BodyTooLarge and its like. Stands before auth-resolution, since a user's key may stand
in the body. A failure on the way, here or further inside, may have to be told in the form that the body
asks for: should it not have been read that far, this layer writes the likely ANSWER.
"""

from codecs import BOM_UTF8

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from sai_proxy import errors
from sai_proxy.http.body_reading import body_at_hand, read_body
from sai_proxy.keys import ANSWER, BODY, HOLDING, LIFECYCLE, RECORD
from sai_proxy.openai_api.endpoints import Endpoint


def request_body_middleware(endpoint: Endpoint, *, max_bytes: int, timeout_s: float) -> Middleware:
    """max_bytes: longest body. timeout_s: for the whole of it to arrive; aiohttp itself sets none."""

    @web.middleware
    async def request_body(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            if not take_what_is_here(request):
                request[BODY] = _without_mark(  # and in no variable: a failure's frames would keep it
                    await read_body(
                        request,
                        request[HOLDING],
                        request[RECORD],
                        request.app[LIFECYCLE],
                        max_bytes=max_bytes,
                        timeout_s=timeout_s,
                    )
                )
            return await handler(request)
        except errors.ProxyError:
            if ANSWER not in request:
                likely = request[ANSWER] = endpoint.likely_answer(request.get(BODY, b""))
                request[RECORD].asked_model, request[RECORD].stream = likely.model, likely.stream
            raise

    def take_what_is_here(request: web.Request) -> bool:
        """Whether that was all of it."""
        body = body_at_hand(request, request[HOLDING], max_bytes=max_bytes)
        if body is None:
            return False
        request[BODY] = _without_mark(body) if body.startswith(BOM_UTF8) else body
        return True

    return request_body


def _without_mark(body: bytes | bytearray) -> bytes | bytearray:
    """A byte order mark is taken off here, so that all who look at the body see the same."""
    return body[len(BOM_UTF8) :] if body.startswith(BOM_UTF8) else body
