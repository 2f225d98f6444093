"""Makes what is asked of SAI a span of its own, by OpenTelemetry's conventions for generative AI, if
tracing is on; otherwise this layer is not in the chain.

Reads CHAT_REQUEST and RECORD. Stands last, next to the handler, so that the span lasts from SAI's
being asked to the answer's end.
"""

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from sai_proxy.keys import CHAT_REQUEST, RECORD
from sai_proxy.telemetry.tracing import Tracing


def inference_tracing_middleware(tracing: Tracing, operation: str) -> Middleware:
    """operation: what the endpoint does, as a `gen_ai.operation.name`."""

    @web.middleware
    async def inference_tracing(request: web.Request, handler: Handler) -> web.StreamResponse:
        with tracing.inference_span(operation, request[CHAT_REQUEST], request[RECORD]):
            return await handler(request)

    return inference_tracing
