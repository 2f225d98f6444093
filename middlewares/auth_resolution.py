"""Decides with which credentials SAI may be asked, in which order.

Reads the request's headers and, for a key of the user's in it, BODY; writes CREDENTIALS and CALLER; raises
AuthenticationFailed. Stands before everything that costs more: the body has arrived, but of it only the
key is looked at.
"""

import hashlib
import hmac
import os
from collections.abc import Awaitable, Mapping

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from sai_proxy.credentials import Credential, bare_key, credential_chain, first_key, make_credential
from sai_proxy.errors import AccessTokenRequired
from sai_proxy.keys import BODY, CALLER, CREDENTIALS, HOLDING, RECORD
from sai_proxy.openai_api.fields import user_key_in

KEY_ID_DIGITS = 12
"""Of the log's name for a credential: enough to tell thousands apart."""


def auth_resolution_middleware(
    *,
    system_key: Credential | None,
    system_cookie: Credential | None,
    access_tokens: frozenset[str] = frozenset(),
    placeholders: frozenset[str] = frozenset(),
    name_holders: bool = False,
    identity_key: bytes = b"",
) -> Middleware:
    """access_tokens: if any, only a request with one of them may use the system's credentials, be it
    as the first or as the fallback. name_holders: whether requests are counted by who asks.
    identity_key: of the hash that names who asks, the same in all replicas if they share what is kept."""
    tokens = [token.encode() for token in access_tokens]
    hash_key = identity_key or os.urandom(32)

    def is_token(text: str) -> bool:
        given = text.encode("utf-8", "surrogateescape")
        return any(hmac.compare_digest(given, token) for token in tokens)

    def holds_token(text: str) -> bool:
        return is_token(bare_key(text)) or any(is_token(word.strip(",;\"'")) for word in text.split())

    def caller_of(user: Credential | None, bearer: str | None) -> str:
        """A name for whoever asks: a hash of their key or token. All who have neither are one."""
        own = user.value if user else bearer if tokens and bearer else ""
        return named(own) if own else nobody

    def named(own: str) -> str:
        return hashlib.blake2b(own.encode("utf-8", "surrogateescape"), key=hash_key, digest_size=16).hexdigest()

    nobody = named("")
    systems = credential_chain(None, system_key, system_cookie)

    @web.middleware
    def auth_resolution(request: web.Request, handler: Handler) -> Awaitable[web.StreamResponse]:
        headers = request.headers
        bearer = _bearer(headers)
        admitted = not tokens or (bearer is not None and is_token(bearer))
        places = (
            ("body", user_key_in(request[BODY])),
            ("user_api_key", headers.get("user_api_key")),
            ("x-user-api-key", headers.get("x-user-api-key")),  # nginx drops names with an underscore
            ("bearer", bearer),
            ("x-api-key", headers.get("x-api-key")),
        )
        candidates = [(place, text) for place, text in places if text is not None]
        if tokens:  # a token is ours, and no key for SAI wherever it stands
            candidates = [(place, text) for place, text in candidates if not (text and holds_token(text))]
        user, record = None, request[RECORD]
        if candidates:
            found = first_key(candidates, placeholders)
            record.ignored_keys = found.ignored or None
            record.key_place = found.place
            user = make_credential(found.key, "user") if found.key else None
        if not (user or admitted):
            raise AccessTokenRequired()
        chain = systems if user is None else credential_chain(user, None, system_cookie if admitted else None)
        request[CREDENTIALS] = chain
        record.credential = chain[0].label
        caller = request[CALLER] = caller_of(user, bearer)
        anonymous = user is None and not (tokens and bearer)
        if not anonymous:
            record.key_id = caller[:KEY_ID_DIGITS]
        if name_holders:
            request[HOLDING].name((record.client or "") if anonymous else caller)
        return handler(request)

    return auth_resolution


def _bearer(headers: Mapping[str, str]) -> str | None:
    authorization = headers.get("Authorization")
    if authorization is None:
        return None
    scheme, _, value = authorization.partition(" ")
    return bare_key(value) if scheme.lower() == "bearer" else None
