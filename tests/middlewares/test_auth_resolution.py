import pytest
from aiohttp import web

from middlewares import auth_resolution_middleware
from sai_proxy.credentials import Credential
from sai_proxy.keys import CREDENTIALS
from sai_proxy.telemetry.record import RequestRecord
from tests.middlewares.conftest import StartLayer

KEY = Credential("key", "system", "system-key")
COOKIE = Credential("cookie", "system", "a=system-cookie")
TOKENS = frozenset({"token-one", "token-two"})


async def show_chain(request: web.Request) -> web.Response:
    return web.Response(text=" ".join(f"{c.label}:{c.value}" for c in request[CREDENTIALS]))


async def chain(
    start_layer: StartLayer,
    headers: dict[str, str],
    *,
    body_key: str | None = None,
    tokens: frozenset[str] = frozenset(),
    key: Credential | None = KEY,
    cookie: Credential | None = COOKIE,
    record: RequestRecord | None = None,
) -> str:
    layer = auth_resolution_middleware(
        system_key=key, system_cookie=cookie, access_tokens=tokens, placeholders=frozenset({"raspberry", "none"})
    )
    client = await start_layer(layer, show_chain, body_key=body_key, record=record)
    async with client.post("/", headers=headers) as response:
        return await response.text()


ALL = {"user_api_key": "k2", "x-user-api-key": "k3", "Authorization": "Bearer k4", "x-api-key": "k5"}


def without(*names: str) -> dict[str, str]:
    return {name: value for name, value in ALL.items() if name not in names}


@pytest.mark.parametrize(
    ("headers", "body_key", "key"),
    [
        (ALL, "k1", "k1"),
        (ALL, None, "k2"),
        (ALL, " raspberry ", "k2"),
        (without("user_api_key"), None, "k3"),
        (without("user_api_key", "x-user-api-key"), None, "k4"),
        ({**without("user_api_key", "x-user-api-key"), "Authorization": "bearer  k4 "}, None, "k4"),
        ({**without("user_api_key", "x-user-api-key"), "Authorization": "Bearer RASPBERRY"}, None, "k5"),
        ({**without("user_api_key", "x-user-api-key"), "Authorization": "Basic azQ="}, None, "k5"),
        ({"x-api-key": "k5"}, "", "k5"),
    ],
)
async def test_the_users_key_is_found_in_order(
    start_layer: StartLayer, headers: dict[str, str], body_key: str | None, key: str
) -> None:
    assert await chain(start_layer, headers, body_key=body_key) == f"user_key:{key} system_cookie:a=system-cookie"


async def test_a_key_that_is_a_cookie_travels_as_one(start_layer: StartLayer) -> None:
    found = await chain(start_layer, {"user_api_key": ".AspNetCore.Cookies=mine"}, cookie=None)
    assert found == "user_cookie:.AspNetCore.Cookies=mine"


@pytest.mark.parametrize(
    ("key", "cookie", "expected"),
    [
        (KEY, COOKIE, "system_key:system-key system_cookie:a=system-cookie"),
        (KEY, None, "system_key:system-key"),
        (None, COOKIE, "system_cookie:a=system-cookie"),
    ],
)
@pytest.mark.parametrize("headers", [{}, {"user_api_key": "raspberry"}, {"Authorization": "Bearer none"}])
async def test_without_a_users_key_the_systems_credentials_serve(
    start_layer: StartLayer, key: Credential | None, cookie: Credential | None, expected: str, headers: dict[str, str]
) -> None:
    assert await chain(start_layer, headers, key=key, cookie=cookie) == expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Authorization": "Bearer token-two"}, "system_key:system-key system_cookie:a=system-cookie"),
        ({"Authorization": "Bearer token-two", "x-api-key": "mine"}, "user_key:mine system_cookie:a=system-cookie"),
        ({"x-api-key": "mine"}, "user_key:mine"),
        ({"Authorization": "Bearer mine"}, "user_key:mine"),
        ({}, "AccessTokenRequired"),
        ({"Authorization": "Bearer raspberry"}, "AccessTokenRequired"),
        ({"x-api-key": "raspberry"}, "AccessTokenRequired"),
        ({"x-api-key": "token-one"}, "AccessTokenRequired"),
        (
            {"Authorization": "Bearer token-two", "user_api_key": "token-two"},
            "system_key:system-key system_cookie:a=system-cookie",
        ),
    ],
)
async def test_with_access_tokens_only_their_bearers_use_the_systems_credentials(
    start_layer: StartLayer, headers: dict[str, str], expected: str
) -> None:
    assert await chain(start_layer, headers, tokens=TOKENS) == expected


async def test_a_key_that_cannot_be_a_header_is_refused(start_layer: StartLayer) -> None:
    assert await chain(start_layer, {}, body_key="a\r\nX-Evil: 1") == "CredentialUnusable"


async def test_the_record_says_kind_and_source(start_layer: StartLayer) -> None:
    record = RequestRecord(started=0)
    await chain(start_layer, {"x-api-key": "mine"}, record=record)
    assert record.credential == "user_key"
