"""The connections to SAI, whichever road: the only module that opens one."""

import asyncio
import logging
import math
import ssl
import time
from collections.abc import Awaitable, Collection, Mapping
from datetime import UTC, datetime

import aiohttp
from yarl import URL

from sai_proxy import __version__, errors
from sai_proxy.conversation.chat import ChatRequest, Conversation, Route
from sai_proxy.credentials import Credential
from sai_proxy.errors.wording import credential_facts, timeout_facts
from sai_proxy.sai_api import failures
from sai_proxy.sai_api.breaker import CircuitBreaker
from sai_proxy.sai_api.exchange import Exchange, Exchanges
from sai_proxy.sai_api.pool import Attempt
from sai_proxy.sai_api.readers import AnswerReader, TextReader
from sai_proxy.sai_api.reply import SaiReply
from sai_proxy.sai_api.rests import CredentialRests
from sai_proxy.sai_api.retries import Retries, RetryBudget
from sai_proxy.sai_api.road import Road
from sai_proxy.sai_api.sockets import make_socket
from sai_proxy.sai_api.upstream import Attempts, AttemptTracing, Hold, Question

logger = logging.getLogger(__name__)

DNS_CACHE_S = 30
"""Short, since a changed address of SAI's shall be found without a restart."""

_MAX_ERROR_CHARS = 64 * 1024
_ERROR_BODY_TIMEOUT_S = 2.0
_SNIFFED_CHARS = 2048


class SaiClient:
    """One SAI, over a pool of connections that all requests share.

    request_timeout_s: one attempt, from connecting to the answer's last byte. idle_timeout_s:
    between two pieces of an answer. max_answer_bytes: of one answer, inflated.
    roads: by their names. targets: names of the routes that are served, each of which has a circuit breaker.
    """

    def __init__(
        self,
        base_url: str,
        *,
        request_timeout_s: float,
        connect_timeout_s: float,
        idle_timeout_s: float,
        max_retries: int,
        retry_statuses: frozenset[int],
        max_answer_bytes: int,
        targets: Collection[str],
        roads: Mapping[str, Road],
        tls: ssl.SSLContext | bool = True,
        tracing: AttemptTracing | None = None,
    ) -> None:
        self._base_url = base_url
        self._request_timeout_s = request_timeout_s
        self._connect_timeout_s = connect_timeout_s
        self._idle_timeout_s = idle_timeout_s
        self._max_retries = max_retries
        self._retry_statuses = retry_statuses
        self._max_answer_bytes = max_answer_bytes
        self._roads = roads
        self._now = asyncio.get_running_loop().time
        self._heads: dict[Route, bytes] = {}
        self._retry_budget = RetryBudget()
        self.rests = CredentialRests(self._now)
        self._breakers = {target: CircuitBreaker(self._now) for target in targets}
        connector = aiohttp.TCPConnector(
            limit=0,  # the default of 100 would queue requests where nobody sees it
            ssl=tls,
            ttl_dns_cache=DNS_CACHE_S,
            socket_factory=make_socket,
        )
        self._exchanges = Exchanges(
            connector, URL(base_url), connect_timeout_s=connect_timeout_s, idle_s=idle_timeout_s
        )
        self._tracing = tracing

    async def close(self) -> None:
        await self._exchanges.close()

    @property
    def open_circuits(self) -> list[str]:
        """Targets that are left alone for the moment."""
        return [target for target, breaker in self._breakers.items() if breaker.is_open]

    def question(self, conversation: Conversation, chat: ChatRequest) -> Question:
        """The bytes that ask this on the request's road."""
        chars = 0
        for message in conversation:
            chars += message.chars
        payload = self._roads[chat.route.road].payload(conversation, chat, time.time_ns() // 1_000_000)
        return Question(payload, chat.route, chars, chat.custom_tools)

    async def ask(
        self, question: Question, credential: Credential, counter: Attempts, deadline: float, hold: Hold
    ) -> SaiReply:
        """Returns when SAI has answered with a good status and what follows is no login page."""
        target = question.route.name
        if rest_s := self.rests.seconds_left(credential, target):
            facts = credential_facts(credential.source, credential.kind)
            raise errors.RateLimited(facts, retry_after_s=math.ceil(rest_s))
        if logger.isEnabledFor(logging.DEBUG):
            shown = credential.mask(question.payload.decode())
            logger.debug("payload for SAI", extra={"payload": shown, "credential": credential.label})
        try:
            with self._breakers[target]:
                self._retry_budget.deposit()
                exchange, retried = await self._respond(question, credential, counter, deadline)
                try:
                    if 200 <= exchange.status < 300 and not _is_html(exchange):
                        return self._reply(exchange, self._reader(exchange, question), hold, credential)
                    return await self._look_closer(exchange, question, credential, hold, retried=retried)
                except BaseException:
                    exchange.close()
                    raise
        finally:
            self.rests.freed(credential, target)

    async def _respond(
        self, question: Question, credential: Credential, counter: Attempts, deadline: float
    ) -> tuple[Exchange, bool]:
        """SAI's response, whatever its status, after as many tries as are allowed; and whether there was more than
        one."""
        retries: Retries | None = None
        fresh = False
        while True:
            counter.attempts += 1
            attempt = Attempt(fresh=fresh)
            failure: errors.ProxyError | None = None
            try:
                exchange = await self._send(question, credential, deadline, attempt)
                if exchange.status not in self._retry_statuses:
                    return exchange, retries is not None and retries.count > 0
                reason = f"status {exchange.status}"
                retries = retries or self._retries(deadline)
                wait_s = retries.after_status(exchange.status, failures.asked_wait(exchange.headers, _now()))
                if wait_s is None:
                    return exchange, retries.count > 0
                exchange.close()
            except (aiohttp.ClientError, TimeoutError) as exc:
                fresh, reason = attempt.stale, type(exc).__name__
                retries = retries or self._retries(deadline)
                wait_s = retries.after_failure(exc, stale=attempt.stale)
                failure = self._failure(exc, retried=retries.count > 0)
            if wait_s is None:
                assert failure is not None
                try:
                    raise failure  # not from inside the handler: with its cause it would keep aiohttp's frames
                finally:
                    del failure  # whose frames are these
            counter.retries += 1
            told = {"attempt": counter.attempts + 1, "wait_s": round(wait_s, 3), "reason": reason}
            logger.warning("asking SAI again", extra=told)
            await asyncio.sleep(wait_s)

    def _retries(self, deadline: float) -> Retries:
        return Retries(
            self._retry_budget,
            most=self._max_retries,
            statuses=self._retry_statuses,
            time_left=lambda: deadline - self._now(),
        )

    def _send(
        self, question: Question, credential: Credential, deadline: float, attempt: Attempt
    ) -> Awaitable[Exchange]:
        deadline = min(self._now() + self._request_timeout_s, deadline)
        name, value = credential.header
        own = f"{name}: {value}\r\nContent-Length: {len(question.payload)}\r\n"
        if self._tracing is not None:
            return self._send_traced(self._tracing, own, question, attempt, deadline)
        head = b"%s%s\r\n" % (self._head(question.route), own.encode())
        return self._exchanges.ask(head, question, attempt, deadline)

    async def _send_traced(
        self, tracing: AttemptTracing, own: str, question: Question, attempt: Attempt, deadline: float
    ) -> Exchange:
        with tracing.attempt_span("POST", self._url(question.route)) as span:
            own += "".join(f"{name}: {value}\r\n" for name, value in span.headers.items())
            head = b"%s%s\r\n" % (self._head(question.route), own.encode())
            exchange = await self._exchanges.ask(head, question, attempt, deadline)
            span.status = exchange.status
            return exchange

    def _url(self, route: Route) -> URL:
        return URL(self._roads[route.road].url(self._base_url, route), encoded=True)

    def _head(self, route: Route) -> bytes:
        """What is the same in all questions of a route."""
        head = self._heads.get(route)
        if head is None:
            url = self._url(route)
            fields = {
                "Host": url.host_port_subcomponent,
                "Accept": self._roads[route.road].accept,
                "Accept-Encoding": "gzip, deflate",
                "Content-Type": "application/json",
                "User-Agent": f"sai-proxy/{__version__}",
            }
            lines = [f"POST {url.raw_path_qs} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), ""]
            head = self._heads[route] = "\r\n".join(lines).encode()
        return head

    async def _look_closer(
        self,
        exchange: Exchange,
        question: Question,
        credential: Credential,
        hold: Hold,
        *,
        retried: bool,
    ) -> SaiReply:
        """Of an answer with another status, or of the type of web pages."""
        if not 200 <= exchange.status < 300:
            if exchange.status == 429:
                wait_s = failures.asked_wait(exchange.headers, _now())
                self.rests.limited(credential, question.route.name, wait_s)
            raise failures.failure_of(
                exchange.status,
                exchange.headers,
                await self._read_start(exchange, credential),
                credential,
                now=_now(),
                payload=question.payload,
                retried=retried,
            )
        may_be_text = isinstance(self._reader(exchange, question), TextReader)
        reply = self._reply(exchange, TextReader(exchange.headers), hold, credential)
        start = await reply.peek(_SNIFFED_CHARS)
        if failures.looks_like_web_page(exchange.headers["Content-Type"], start) or not may_be_text:
            raise failures.login_page_failure(await reply.peek(_MAX_ERROR_CHARS), credential)
        return reply

    def _reader(self, exchange: Exchange, question: Question) -> AnswerReader:
        return self._roads[question.route.road].reader(exchange.headers, question.custom_tools)

    def _reply(self, exchange: Exchange, reader: AnswerReader, hold: Hold, credential: Credential) -> SaiReply:
        return SaiReply(
            exchange,
            reader,
            hold,
            mask=credential.mask,
            idle_timeout_s=self._idle_timeout_s,
            request_timeout_s=self._request_timeout_s,
            max_bytes=self._max_answer_bytes,
        )

    async def _read_start(self, exchange: Exchange, credential: Credential) -> str:
        """As much of a failure's body as comes soon: its status must not wait for the rest, nor is a body
        that breaks off, or in a coding that nobody knows, a second failure."""
        reply: SaiReply | None = None
        try:
            reply = self._reply(exchange, TextReader(exchange.headers), _nothing_held, credential)
            async with asyncio.timeout(_ERROR_BODY_TIMEOUT_S):
                return await reply.peek(_MAX_ERROR_CHARS)
        except (errors.ProxyError, TimeoutError):
            return reply.peeked if reply else ""

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
                    detail=f"{detail}: {exc}", retried=retried, retry_after_s=failures.DEFAULT_RETRY_AFTER_S
                )
        return errors.UpstreamProtocolError(
            detail=f"SAI closed the connection, or its answer is no HTTP: {detail}", retried=retried
        )


def _is_html(exchange: Exchange) -> bool:
    content_type = exchange.headers.get("Content-Type")
    return content_type is not None and content_type.lower().startswith("text/html")


def _nothing_held(size: int) -> None:
    """A failure's body is short, and goes into the log."""


def _now() -> datetime:
    return datetime.now(UTC)
