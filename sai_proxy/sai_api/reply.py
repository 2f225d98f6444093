"""An answer of SAI's, read piece by piece off its connection."""

import asyncio
import sys
from collections import deque
from collections.abc import Callable

import aiohttp

from sai_proxy import errors
from sai_proxy.conversation.chat import Usage
from sai_proxy.conversation.events import CallArguments, Event
from sai_proxy.errors.wording import timeout_facts
from sai_proxy.sai_api.exchange import Exchange, SilentError
from sai_proxy.sai_api.inflate import BodyDecoder, body_decoder
from sai_proxy.sai_api.readers import AnswerReader
from sai_proxy.sai_api.upstream import Hold

PIECE_BYTES = 32 * 1024
"""Read at once, however much has arrived: what a client does not take yet waits where SAI is slowed down by it."""


class SaiReply:
    """An answer of SAI's, whose connection it owns until it is closed.

    reader: makes events of its bytes. hold: told of what has come and not been taken: a document's bytes, and its
    text until the next read. mask: takes the credential out of what a failure quotes. max_bytes: of the whole answer,
    inflated. Raises UpstreamProtocolError for a coding of its body that was not asked for.
    """

    __slots__ = (
        "_body",
        "_bytes_left",
        "_ended",
        "_exchange",
        "_failure",
        "_given_bytes",
        "_held_bytes",
        "_hold",
        "_idle_timeout_s",
        "_mask",
        "_max_bytes",
        "_reader",
        "_ready",
        "_request_timeout_s",
        "_waiting_bytes",
        "peeked",
    )

    def __init__(
        self,
        exchange: Exchange,
        reader: AnswerReader,
        hold: Hold,
        *,
        mask: Callable[[str], str],
        idle_timeout_s: float,
        request_timeout_s: float,
        max_bytes: int,
    ) -> None:
        self._exchange = exchange
        self._reader = reader
        self._hold = hold
        self._mask = mask
        self._held_bytes = 0
        self._waiting_bytes = 0
        self._given_bytes = 0
        self._ready: deque[Event] = deque()
        coding = exchange.headers.get("Content-Encoding")
        self._body: BodyDecoder | None = None if coding is None else body_decoder(coding)
        self._idle_timeout_s = idle_timeout_s
        self._request_timeout_s = request_timeout_s
        self._max_bytes = self._bytes_left = max_bytes
        self.peeked = ""
        self._ended = False
        self._failure: errors.ProxyError | None = None

    @property
    def model(self) -> str | None:
        return self._reader.model

    @property
    def usage(self) -> Usage:
        return self._reader.usage

    @property
    def finish_reason(self) -> str | None:
        return self._reader.finish_reason

    @property
    def at_hand(self) -> bool:
        return bool(self._ready or self.peeked) or self.complete

    @property
    def complete(self) -> bool:
        return self._ended or self._reader.ended or self._exchange.complete

    def rest(self) -> list[Event] | None:
        if self._ready or self.peeked or self._ended or self._body is not None:
            return None
        try:
            data = self._exchange.all_at_hand(min(PIECE_BYTES, self._bytes_left))
        except (TimeoutError, aiohttp.ClientError):
            return None  # `read` says why, and what has arrived before
        if data is None:
            return None
        self._ended = True
        try:
            events = self._reader.feed(data)
            try:
                return events + self._reader.end()
            except errors.ProxyError as exc:
                if not events:
                    raise
                self._failure = exc.with_traceback(None)  # first goes what has come
        except errors.ProxyError as exc:
            self._mask_detail(exc)
            raise
        self._ready.extend(events)
        return None

    async def read(self) -> Event | None:
        if self.peeked:
            text, self.peeked = self.peeked, ""
            return text
        self._given_bytes = 0  # whoever asks for the next has done with the last
        ready, body, exchange = self._ready, self._body, self._exchange
        try:
            while not (ready or self._ended):
                if self._reader.ended:
                    self._finish()
                elif body is not None and body.pending:
                    await asyncio.sleep(0)  # others have their turn between the pieces of what inflates to much
                    self._take(b"")
                else:
                    try:
                        data = exchange.at_hand(PIECE_BYTES)
                        if data is None:
                            data = await exchange.receive(PIECE_BYTES)
                    except (TimeoutError, aiohttp.ClientError) as exc:
                        data = self._arrived_before(exc)
                    if data:
                        self._take(data)
                        continue
                    if body is not None:
                        body.end()
                    self._finish()
        except errors.ProxyError as exc:
            self._mask_detail(exc)
            raise
        event = ready.popleft() if ready else None
        if event is None and self._failure is not None:
            failure, self._failure = self._failure, None
            self._mask_detail(failure)
            try:
                raise failure
            finally:
                del failure  # whose frames are these
        if self._waiting_bytes:
            self._given_bytes = _large(event)
            self._waiting_bytes -= self._given_bytes
        if self._held_bytes:
            self._account()
        return event

    def _mask_detail(self, exc: errors.ProxyError) -> None:
        if exc.detail:
            exc.detail = self._mask(exc.detail)

    def _take(self, data: bytes) -> None:
        inflated = data if self._body is None else self._body.feed(data)
        self._bytes_left -= len(inflated)
        if self._bytes_left < 0:
            raise errors.UpstreamAnswerTooLong({"limit": self._max_bytes}, detail="more than MAX_ANSWER_BYTES")
        self._add(self._reader.feed(inflated))

    def _finish(self) -> None:
        self._ended = True
        if not self._exchange.complete:  # it has said all, and keeps the connection open
            self._exchange.close()
        self._add(self._reader.end())

    def _add(self, events: list[Event]) -> None:
        for event in events:
            self._ready.append(event)
            self._waiting_bytes += _large(event)
        self._account()

    def _account(self) -> None:
        held = self._reader.held_bytes + self._waiting_bytes + self._given_bytes
        if held != self._held_bytes:
            before, self._held_bytes = self._held_bytes, held
            self._hold(held - before)

    async def peek(self, chars: int) -> str:
        """At least `chars` characters of the beginning of a text, or all there is; `read` starts with them."""
        start, self.peeked = self.peeked, ""
        try:
            while len(start) < chars and isinstance(text := await self.read(), str):
                start += text
        finally:
            self.peeked = start
        return start

    def close(self) -> None:
        self._exchange.close()

    def _arrived_before(self, exc: TimeoutError | aiohttp.ClientError) -> bytes:
        """What has arrived before the answer broke off, none if it has said all. Raises what to call it."""
        exc.__traceback__ = None  # the stream keeps its exception, whose frames would keep all of this
        if isinstance(exc, SilentError):
            detail = f"SAI was silent for {self._idle_timeout_s:g} s in mid-answer"
            raise errors.UpstreamTimeout(timeout_facts(self._idle_timeout_s), detail=detail) from exc
        if isinstance(exc, TimeoutError):
            facts = timeout_facts(self._request_timeout_s)
            raise errors.UpstreamTimeout(facts, detail="the answer took too long") from exc
        if self._reader.ended:
            return b""
        if arrived := self._exchange.rest(PIECE_BYTES):
            return arrived
        raise errors.UpstreamProtocolError(
            detail=f"SAI's answer ended too early, or was malformed: {type(exc).__name__}"
        ) from exc


def _large(event: Event | None) -> int:
    """Bytes of an event that is not just another piece of a stream."""
    text = event if isinstance(event, str) else event.text if isinstance(event, CallArguments) else ""
    return sys.getsizeof(text) if len(text) > PIECE_BYTES else 0
