import re

import pytest
from aiohttp import web

from middlewares import request_id_middleware
from sai_proxy.keys import REQUEST_ID
from sai_proxy.telemetry.logs import current_request_id
from tests.middlewares.conftest import StartLayer


async def tell(request: web.Request) -> web.Response:
    assert current_request_id.get() == request[REQUEST_ID]
    return web.Response(text=request[REQUEST_ID])


async def chosen_id(start_layer: StartLayer, given: str | None) -> str:
    client = await start_layer(request_id_middleware(), tell)
    headers = {} if given is None else {"X-Request-ID": given}
    async with client.get("/", headers=headers) as response:
        return await response.text()


@pytest.mark.parametrize("given", ["a", "A.b_c-9", "x" * 64])
async def test_a_well_formed_id_of_the_clients_is_kept(start_layer: StartLayer, given: str) -> None:
    assert await chosen_id(start_layer, given) == given


@pytest.mark.parametrize("given", [None, "", "x" * 65, "a b", "a/b", "ñ", '"'])
async def test_any_other_is_replaced_by_eight_hex_digits(start_layer: StartLayer, given: str | None) -> None:
    assert re.fullmatch("[0-9a-f]{8}", await chosen_id(start_layer, given))


async def test_two_requests_have_two_ids(start_layer: StartLayer) -> None:
    assert await chosen_id(start_layer, None) != await chosen_id(start_layer, None)
