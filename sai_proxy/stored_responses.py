"""The answers that are kept, asked for by their ids: `GET` and `DELETE /v1/responses/{id}`, and its input items."""

from functools import partial

import msgspec
from aiohttp import web
from msgspec import Struct

from sai_proxy.errors import InvalidValue, ResponseNotFound, UnsupportedParameter, UnsupportedValue
from sai_proxy.http.admission import Holding
from sai_proxy.keys import CALLER, HOLDING, STORE
from sai_proxy.openai_api.kept_responses import (
    DEFAULT_PAGE,
    MAX_PAGE,
    DeletedResponse,
    ItemList,
    Kept,
    input_items,
    is_response_id,
)
from sai_proxy.relay.writer import AnswerWriter

COPIES = 3
"""How often what is kept is there while it is answered: inflated, taken apart, and as the answer's body."""


class _Id(Struct):
    id: str = ""


_id_decoder = msgspec.json.Decoder(_Id)


async def get_response(request: web.Request) -> web.StreamResponse:
    """The response object."""
    if request.query.get("stream") == "true":
        raise UnsupportedParameter(param="stream")
    return await _write(request, bytes((await _kept(request)).response))


async def delete_response(request: web.Request) -> web.StreamResponse:
    """Forget it."""
    name = _name(request)
    if not await request.app[STORE].forget(request[CALLER], name):
        raise ResponseNotFound({"id": name})
    return await _write(request, msgspec.json.encode(DeletedResponse(name)))


async def list_input_items(request: web.Request) -> web.StreamResponse:
    """What was new in its request, in pages, the last item first unless asked otherwise."""
    limit, order = _limit(request), request.query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise UnsupportedValue({"allowed": "asc, desc"}, param="order")
    items = input_items(await _kept(request))
    if order == "desc":
        items.reverse()
    names = [_id_decoder.decode(item).id for item in items]
    after = request.query.get("after")
    if after is not None:
        if after not in names:
            raise InvalidValue({"problem_en": "there is no such item", "problem_es": "no existe"}, param="after")
        start = names.index(after) + 1
        items, names = items[start:], names[start:]
    page, shown = items[:limit], names[:limit]
    listing = ItemList(
        data=page,
        first_id=shown[0] if shown else None,
        last_id=shown[-1] if shown else None,
        has_more=len(items) > limit,
    )
    return await _write(request, msgspec.json.encode(listing))


def _limit(request: web.Request) -> int:
    text = request.query.get("limit", str(DEFAULT_PAGE))
    if not (text.isascii() and text.isdigit() and len(text) <= 3 and 1 <= int(text) <= MAX_PAGE):
        raise UnsupportedValue({"allowed": f"1..{MAX_PAGE}"}, param="limit")
    return int(text)


def _name(request: web.Request) -> str:
    name = request.match_info["id"]
    if not is_response_id(name):
        raise ResponseNotFound({"id": name[:100]})
    return name


async def _kept(request: web.Request) -> Kept:
    name = _name(request)
    kept = await request.app[STORE].get(request[CALLER], name, partial(_hold, request[HOLDING]))
    if kept is None:
        raise ResponseNotFound({"id": name})
    return kept


def _hold(holding: Holding, size: int) -> None:
    holding.grow(COPIES * size, alone=False)


async def _write(request: web.Request, body: bytes) -> web.StreamResponse:
    """Returns when the client has it, until when it is accounted for."""
    writer = AnswerWriter(request)
    await writer.write_whole(body, {"Content-Type": "application/json"})
    return writer.response
