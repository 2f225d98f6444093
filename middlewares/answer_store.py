"""Recalls the kept answers that a request refers to, and keeps its own.

Reads BODY and CALLER; writes RECALLED, and KEEP for whoever has the whole answer; raises StoreUnavailable. Stands
after auth-resolution, since what is kept belongs to somebody, and before chat-body, which reads what was recalled.
"""

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from sai_proxy.errors import ContextLengthExceeded
from sai_proxy.keys import BODY, CALLER, HOLDING, KEEP, RECALLED, STORE
from sai_proxy.openai_api.endpoints import Endpoint
from sai_proxy.openai_api.kept_responses import MAX_RECALLED_BYTES, NOTHING, Kept

COPIES = 2
"""How often what is recalled is there: as it was kept, and as messages."""


def answer_store_middleware(endpoint: Endpoint) -> Middleware:
    @web.middleware
    async def answer_store(request: web.Request, handler: Handler) -> web.StreamResponse:
        store, owner = request.app[STORE], request[CALLER]

        async def keep(kept: Kept) -> None:
            await store.keep(owner, kept)

        recalled_bytes = 0

        def hold(size: int) -> None:
            nonlocal recalled_bytes
            recalled_bytes += size
            if recalled_bytes > MAX_RECALLED_BYTES:
                raise ContextLengthExceeded(param="previous_response_id")
            request[HOLDING].grow(COPIES * size, alone=False)

        wanted = endpoint.references(request[BODY])
        request[RECALLED] = await store.recall(owner, wanted, hold) if wanted else NOTHING
        request[KEEP] = keep
        return await handler(request)

    return answer_store
