"""Keeps a record of each request, of which its one log line and its metrics are made when it has ended.

Writes RECORD, which every other layer fills. Stands outermost, so that the status
it reports is the one that went out.
"""

import asyncio
from collections.abc import Sequence
from time import monotonic

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from sai_proxy.http.client_address import Network, client_address
from sai_proxy.keys import RECORD
from sai_proxy.telemetry.accounts import Accounts
from sai_proxy.telemetry.record import CLIENT_CLOSED_REQUEST, CLIENT_STALLED, RequestRecord

MAX_PATH_CHARS = 300
MAX_USER_AGENT_CHARS = 200
"""Of what a client may make as long as it likes: a log line stays short, and whole in a pipe that others write to."""


def request_record_middleware(accounts: Accounts, trusted_proxies: Sequence[Network] = ()) -> Middleware:
    """trusted_proxies: networks of proxies whose word counts about the client's address."""

    @web.middleware
    async def request_record(request: web.Request, handler: Handler) -> web.StreamResponse:
        record = request[RECORD] = RequestRecord(started=monotonic())
        record.client = client_address(request.remote, request.headers, trusted_proxies)
        record.user_agent = (request.headers.get("User-Agent") or "")[:MAX_USER_AGENT_CHARS] or None
        status = 500
        try:
            response = await handler(request)
        except (asyncio.CancelledError, ConnectionError):
            record.client_disconnected = True
            if getattr(request.protocol, "write_stalled", False):
                record.error, record.fault = CLIENT_STALLED, "caller"
            status = CLIENT_CLOSED_REQUEST
            raise
        else:
            status = response.status
            return response
        finally:
            record.ended, record.status = monotonic(), status
            record.method, record.path, record.route = request.method, request.path[:MAX_PATH_CHARS], route_of(request)
            accounts.add(record)

    return request_record


def route_of(request: web.Request) -> str:
    """The template of the request's route, so that metrics and spans have few of them."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "unknown"
