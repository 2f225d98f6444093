"""The connection to SAI's `execute`: the only module that opens one."""

import asyncio
import logging
import ssl
import sys
import time
import traceback
from datetime import UTC, datetime

import aiohttp
import msgspec
from aiohttp_retry import JitterRetry, RetryClient

from sai_proxy import __version__, errors
from sai_proxy.conversation.chat import Question
from sai_proxy.credentials import Credential
from sai_proxy.errors.wording import timeout_facts
from sai_proxy.sai_api import template
from sai_proxy.sai_api.reply import SaiReply
from sai_proxy.sai_api.sockets import make_socket
from sai_proxy.sai_api.upstream import Attempts

logger = logging.getLogger(__name__)

RETRIED_STATUSES = {502, 503, 504}
FIRST_BACKOFF_S = 0.25
MAX_BACKOFF_S = 8.0
DNS_CACHE_S = 30
"""Short, since a changed address of SAI's shall be found without a restart."""

_MAX_ERROR_CHARS = 64 * 1024
_ERROR_BODY_TIMEOUT_S = 2.0
_SNIFFED_CHARS = 2048


class SaiRetry(JitterRetry):
    """When to ask again: nothing has reached the client yet, so a connection that failed, a timeout
    and a gateway's status may be tried anew. One object a call: it counts."""

    def __init__(self, retries: int, counter: Attempts) -> None:
        super().__init__(
            attempts=retries + 1,
            start_timeout=FIRST_BACKOFF_S,
            max_timeout=MAX_BACKOFF_S,
            random_interval_size=FIRST_BACKOFF_S,
            statuses=RETRIED_STATUSES,
            exceptions={aiohttp.ClientConnectionError, asyncio.TimeoutError},
            methods={"POST"},
            retry_all_server_errors=False,
        )
        self.counter = counter
        self.retried = False

    def get_timeout(self, attempt: int, response: aiohttp.ClientResponse | None = None) -> float:
        """Seconds to wait before the next try: SAI's Retry-After, else a jittered back-off."""
        self.retried = True
        self.counter.attempts += 1
        self.counter.retries += 1
        wait: float | None = None
        if response is not None:
            response.close()  # the retry client drops it, with its connection still open
            if "Retry-After" in response.headers:
                wait = template.read_retry_after(response.headers, _now())
        else:
            _let_go(sys.exception())  # of an attempt that nobody asks about any more
        if wait is None:
            wait = float(super().get_timeout(attempt, response))
        logger.warning(
            "asking SAI again",
            extra={"attempt": attempt + 1, "wait_s": round(wait, 3), "reason": _reason(response)},
        )
        return wait


class SaiClient:
    """`execute` of one SAI, over a pool of connections that all requests share.

    request_timeout_s: one attempt, from connecting to the answer's last byte. idle_timeout_s:
    between two pieces of an answer.
    """

    def __init__(
        self,
        base_url: str,
        *,
        request_timeout_s: float,
        connect_timeout_s: float,
        idle_timeout_s: float,
        max_retries: int,
        tls: ssl.SSLContext | bool = True,
        trace_configs: list[aiohttp.TraceConfig] | None = None,
    ) -> None:
        self._base_url = base_url
        self._request_timeout_s = request_timeout_s
        self._connect_timeout_s = connect_timeout_s
        self._idle_timeout_s = idle_timeout_s
        self._max_retries = max_retries
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0,  # the default of 100 would queue requests where nobody sees it
                ssl=tls,
                ttl_dns_cache=DNS_CACHE_S,
                socket_factory=make_socket,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),  # one user's session must never travel with another's call
            timeout=aiohttp.ClientTimeout(total=request_timeout_s, connect=connect_timeout_s),
            trace_configs=trace_configs,
            auto_decompress=False,  # see `inflate`
            headers={
                "Accept": template.ACCEPT,
                "Accept-Encoding": "gzip, deflate",
                "Content-Type": "application/json",
                "User-Agent": f"sai-proxy/{__version__}",
            },
        )
        self._retrying = RetryClient(self._session)

    async def close(self) -> None:
        await self._session.close()

    async def ask(self, question: Question, credential: Credential, counter: Attempts) -> SaiReply:
        """Returns when SAI has answered with a good status and what follows is no login page."""
        payload = template.build_payload(question, time.time_ns() // 1_000_000)
        if logger.isEnabledFor(logging.DEBUG):
            shown = credential.mask(msgspec.json.encode(payload).decode())
            logger.debug("payload for SAI", extra={"payload": shown, "credential": credential.label})
        counter.attempts += 1
        retry = SaiRetry(self._max_retries, counter)
        try:
            response = await self._retrying.post(
                template.execute_url(self._base_url, question.route),
                data=msgspec.json.encode(payload),
                headers=[credential.header],
                allow_redirects=False,
                retry_options=retry,
            )
        except (aiohttp.ClientError, TimeoutError) as exc:
            _let_go(exc)
            raise self._failure(exc, retried=retry.retried) from exc
        try:
            reply = SaiReply(response, self._idle_timeout_s, self._request_timeout_s)
            await self._check(response, reply, credential, retried=retry.retried)
        except BaseException:
            response.close()
            raise
        return reply

    async def _check(
        self, response: aiohttp.ClientResponse, reply: SaiReply, credential: Credential, *, retried: bool
    ) -> None:
        if not 200 <= response.status < 300:
            body = await _read_start(reply)
            raise template.failure_of(response.status, response.headers, body, credential, now=_now(), retried=retried)
        content_type = response.headers.get("Content-Type", "")
        if content_type.lower().startswith("text/html"):
            start = await reply.peek(_SNIFFED_CHARS)
            if template.looks_like_web_page(content_type, start):
                raise template.login_page_failure(await reply.peek(_MAX_ERROR_CHARS), credential)

    def _failure(self, exc: Exception, *, retried: bool) -> errors.ProxyError:
        """Why there is no answer. Details name the exception's class: its text may hold a header."""
        detail = type(exc).__name__
        match exc:
            case aiohttp.ConnectionTimeoutError():
                return errors.UpstreamTimeout(
                    timeout_facts(self._connect_timeout_s),
                    detail=f"no connection to SAI within SAI_CONNECT_TIMEOUT, {self._connect_timeout_s:g} s: {detail}",
                    retried=retried,
                )
            case TimeoutError():
                return errors.UpstreamTimeout(
                    timeout_facts(self._request_timeout_s),
                    detail=f"no answer from SAI within REQUEST_TIMEOUT, {self._request_timeout_s:g} s: {detail}",
                    retried=retried,
                )
            case aiohttp.ClientSSLError():
                return errors.UpstreamTlsError(detail=f"{detail}: {exc}")
            case aiohttp.ClientConnectorError():
                return errors.UpstreamUnreachable(
                    detail=f"{detail}: {exc}", retried=retried, retry_after_s=template.DEFAULT_RETRY_AFTER_S
                )
        return errors.UpstreamProtocolError(
            detail=f"SAI closed the connection, or its answer is no HTTP: {detail}", retried=retried
        )


async def _read_start(reply: SaiReply) -> str:
    """As much of a failure's body as comes soon: its status must not wait for the rest, nor is a
    body that breaks off a second failure."""
    try:
        async with asyncio.timeout(_ERROR_BODY_TIMEOUT_S):
            return await reply.peek(_MAX_ERROR_CHARS)
    except (errors.ProxyError, TimeoutError):
        return reply.peeked


def _let_go(exc: BaseException | None) -> None:
    """Empty the frames that an exception went through, and those of its causes: aiohttp keeps
    exceptions in variables of such frames, which would keep each other, and the question, alive."""
    seen: set[int] = set()
    while exc is not None and id(exc) not in seen:
        seen.add(id(exc))
        traceback.clear_frames(exc.__traceback__)
        exc = exc.__cause__ or exc.__context__


def _reason(response: aiohttp.ClientResponse | None) -> str:
    """Why another try is made: a status, or the exception that is being handled."""
    return f"status {response.status}" if response is not None else type(sys.exception()).__name__


def _now() -> datetime:
    return datetime.now(UTC)
