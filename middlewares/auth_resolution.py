"""Decides with which credentials SAI may be asked, in which order.

Reads the request's headers and BODY_KEY; writes CREDENTIALS; raises AuthenticationFailed. Stands
before everything that costs more, and after the body, which may hold the user's key.
"""

import hmac

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from sai_proxy.credentials import Credential, credential_chain, first_key, make_credential
from sai_proxy.errors import AccessTokenRequired
from sai_proxy.keys import BODY_KEY, CREDENTIALS, RECORD


def auth_resolution_middleware(
    *,
    system_key: Credential | None,
    system_cookie: Credential | None,
    access_tokens: frozenset[str] = frozenset(),
    placeholders: frozenset[str] = frozenset(),
) -> Middleware:
    """access_tokens: if any, only a request with one of them may use the system's credentials, be it
    as the first or as the fallback."""
    tokens = [token.encode() for token in access_tokens]

    def is_token(text: str) -> bool:
        given = text.encode("utf-8", "surrogateescape")
        return any(hmac.compare_digest(given, token) for token in tokens)

    @web.middleware
    async def auth_resolution(request: web.Request, handler: Handler) -> web.StreamResponse:
        bearer = _bearer(request)
        admitted = not tokens or (bearer is not None and is_token(bearer))
        headers = request.headers
        candidates: list[tuple[str, str | None]] = [
            ("body", request[BODY_KEY]),
            ("user_api_key", headers.get("user_api_key")),
            ("x-user-api-key", headers.get("x-user-api-key")),  # nginx drops names with an underscore
            ("bearer", bearer),
            ("x-api-key", headers.get("x-api-key")),
        ]
        if tokens:  # a token is ours, and no key for SAI wherever it stands
            candidates = [(place, text) for place, text in candidates if not (text and is_token(text.strip()))]
        found = first_key(candidates, placeholders)
        request[RECORD].ignored_keys = found.ignored or None
        user = make_credential(found.key, "user") if found.key else None
        if not (user or admitted):
            raise AccessTokenRequired()
        chain = credential_chain(user, system_key, system_cookie) if admitted else credential_chain(user, None, None)
        request[CREDENTIALS] = chain
        request[RECORD].credential = chain[0].label
        request[RECORD].key_place = found.place
        return await handler(request)

    return auth_resolution


def _bearer(request: web.Request) -> str | None:
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    return value.strip() if scheme.lower() == "bearer" else None
