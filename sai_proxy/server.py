"""The HTTP server around the application: sockets, aiohttp's limits, and stopping without loss."""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Collection, Coroutine, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from itertools import chain, repeat
from typing import Any, ClassVar

from aiohttp import HttpVersion10, HttpVersion11, StreamReader, http_parser, web
from aiohttp.web_protocol import RequestHandler

from middlewares.request_id import choose_request_id
from sai_proxy import errors
from sai_proxy.errors.table import ErrorForm
from sai_proxy.http.admission import Admission
from sai_proxy.http.draining import Lifecycle
from sai_proxy.http.error_responses import SERVER_NAME, error_response, from_http_exception
from sai_proxy.http.half_close import INTERIM_RESPONSE, LATER_PROBES_S, PROBE_PAUSES_S, HalfCloseProbe
from sai_proxy.http.ids import random_hex
from sai_proxy.keys import ACCOUNTS, ADMISSION, LIFECYCLE
from sai_proxy.openai_api.error_body import error_body
from sai_proxy.openai_api.failures import FailurePolicy
from sai_proxy.sai_api.sockets import ResumesIfPaused, bytes_on_the_way, enable_tcp_keepalive, keep_little_in_the_kernel

logger = logging.getLogger(__name__)

MAX_HEADER_BYTES = 48 * 1024
"""A session cookie can reach 32 KiB, and aiohttp's default of 8 KiB would refuse it."""

MAX_HEAD_BYTES = 64 * 1024
"""Of all header fields of one request together."""

MAX_QUEUED_BYTES = 64 * 1024
"""Of requests that wait for an earlier one of their connection: no client is known that sends more ahead."""

MIN_PROGRESS_BYTES = 16 * 1024
"""What a client has to take within the time it is given, so as not to be cut off."""

KEEPALIVE_TIMEOUT_S = 75
"""Also the deadline for a request's headers. Above the 60 s after which common load balancers drop
an idle connection, so that they, not this server, decide."""

MIN_FLUSH_S = 1.0
"""For last events to reach their clients."""

READ_AHEAD_BYTES = 64 * 1024
"""Of a body, before its client has to wait. Also bounds how many chunks are parsed in one turn of the loop (one for
16 of these bytes): aiohttp's default let a body in chunks of one byte keep all others waiting for 40 ms."""

LINGERING_TIME_S = 5
"""How long the rest of a refused body is read away, so that its client gets to read the refusal."""


class ProxyProtocol(HalfCloseProbe, ResumesIfPaused, RequestHandler):
    """One connection, with what aiohttp does not bound: how many there are, how long a request's head may
    be in all, and how long a client may let what is written to it wait.

    Even what is refused before any middleware (malformed HTTP, an unmet expectation) is answered in
    OpenAI's error form and without echoing what was sent. write_stalled: whether the client was cut off
    since it did not read.
    """

    policy = FailurePolicy()
    always: ClassVar[dict[str, str]] = {}
    admission: ClassVar[Admission]
    write_timeout_s: ClassVar[float] = 60

    write_stalled = False
    _turned_away = False
    _head_bytes = 0
    _held = 0
    _unread = 0
    _last_payload: StreamReader | None = None
    _write_deadline: asyncio.TimerHandle | None = None
    _probing: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        admitted = self.admission.connect()
        super().connection_made(transport)
        if (sock := transport.get_extra_info("socket")) is not None:
            enable_tcp_keepalive(sock)
            keep_little_in_the_kernel(sock)
        if not admitted:
            self._turn_away(self.admission.refusal("connections", f"{self.admission.connections} connections are open"))

    def connection_lost(self, exc: BaseException | None) -> None:
        self.admission.disconnect()
        self._hold(0)
        self._last_payload = None
        if self._write_deadline is not None:
            self._write_deadline.cancel()
        if self._probing is not None:
            self._probing.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._turned_away:
            return
        payload, count = self._last_payload, self._request_count
        in_body = payload is not None and not payload.is_eof()
        received = payload.total_bytes if payload is not None else 0
        super().data_received(data)
        if self._request_count != count:
            head_bytes, self._head_bytes = self._head_bytes, 0
            self._receive_requests(head_bytes + len(data))
        elif in_body and payload is not None and payload.total_bytes > received:
            self._head_bytes = 0
        elif data:  # of a head, or of the fields behind a chunked body
            self._head_bytes += len(data)
        if self._head_bytes or self._held or len(self._messages) > (self._current_request is None):
            self._check_heads()

    def _receive_requests(self, size: int) -> None:
        """Heads are complete. size: of what they came in, with bodies."""
        if self._messages:
            self._last_payload = self._messages[-1][1]
        for message, _ in self._messages:
            if getattr(message, "version", HttpVersion10) < HttpVersion10:
                self._turn_away(errors.MalformedHttp(detail="a version below HTTP/1.0"))
                break
        if size > MAX_HEAD_BYTES and any(_size_of(message) > MAX_HEAD_BYTES for message, _ in self._messages):
            self._turn_away(errors.MalformedHttp(detail="the head is too long"))

    def _check_heads(self) -> None:
        """Heads that are not complete, and complete ones that wait for an earlier request of the connection,
        are held within bounds."""
        waiting = len(self._messages) - (self._current_request is None)  # else the first is about to be looked at
        queued = self._queued_bytes(waiting) if waiting > 0 else 0
        if self._head_bytes > MAX_HEAD_BYTES or queued > MAX_QUEUED_BYTES:
            self._turn_away(errors.MalformedHttp(detail="a head is too long, or too much waits behind a request"))
            return
        # What ends a body is not refused for want of room: its request has been let in.
        size = queued if self._current_request is not None else self._head_bytes + queued
        if size == self._held:
            return
        try:
            self._hold(size)
        except errors.ServerBusy as exc:
            self._turn_away(exc)

    def _queued_bytes(self, waiting: int) -> int:
        """Of the last requests, so many, which wait for an earlier one."""
        last = list(self._messages)[-waiting:]
        return sum(_size_of(message) + getattr(payload, "total_bytes", 0) for message, payload in last)

    def _hold(self, size: int) -> None:
        admission, more = self.admission, size - self._held
        if more > 0:
            admission.check_bytes(more, held_by_same=self._held)
        admission.held += more
        self._held = size

    def _turn_away(self, failure: errors.ProxyError) -> None:
        """Answer what is no request yet, and end the connection."""
        self._turned_away = True
        transport = self.transport
        if transport is None:
            return
        if self._current_request is None:
            form = self.policy.form(failure)
            self._log_refusal(form.status, failure.detail, random_hex(8), None)
            transport.write(raw_response(form, self.always))
        self.force_close()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread = self._unread_bytes()
        self._write_deadline = self._loop.call_later(self.write_timeout_s, self._check_progress)

    def resume_writing(self) -> None:
        if self._write_deadline is not None:
            self._write_deadline.cancel()
            self._write_deadline = None
        super().resume_writing()

    def _check_progress(self) -> None:
        """A client that has not read for too long is cut off: what waits for it is let go."""
        unread = self._unread_bytes()
        if unread <= self._unread - MIN_PROGRESS_BYTES:
            self._unread = unread
            self._write_deadline = self._loop.call_later(self.write_timeout_s, self._check_progress)
            return
        self.write_stalled = True
        if self.transport is not None:
            self.transport.abort()

    def _unread_bytes(self) -> int:
        """What the client has not taken yet, here and in the kernel."""
        if self.transport is None:
            return 0
        return self.transport.get_write_buffer_size() + bytes_on_the_way(self.transport.get_extra_info("socket"))

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """A client that sends no more may still wait for what it has asked."""
        payload = self._last_payload
        if self._is_idle() or (payload is not None and not payload.is_eof()):
            return None
        self.close()  # after the answer
        self._probing = self._loop.create_task(self._probe())
        return True

    def _is_idle(self) -> bool:
        """Whether nothing is asked, nor being answered: aiohttp's task waits for a request, or has had none."""
        waiter = self._waiter
        return not self._messages and (not self._request_count or (waiter is not None and not waiter.done()))

    async def _probe(self) -> None:
        for pause_s in chain(PROBE_PAUSES_S, repeat(LATER_PROBES_S)):
            await asyncio.sleep(pause_s)
            request = self._current_request
            if self.transport is None or self.transport.is_closing() or self._is_idle():
                return
            if request is None:
                continue
            if self.send is not None:
                self.send()
            elif not request.writer.output_size and request.version >= HttpVersion11:
                self.transport.write(INTERIM_RESPONSE)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if status < 500:
            failure: errors.ProxyError = errors.MalformedHttp(detail=type(exc).__name__)
        elif isinstance(exc, ConnectionError):
            raise exc  # the client has left, before its task was told
        else:
            logger.error("unexpected error outside the application", exc_info=exc)
            failure = errors.InternalError()
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has already begun")
        return self._refusal(request, failure)

    def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> Coroutine[Any, Any, tuple[web.StreamResponse, bool]]:
        if resp.status >= 400 and isinstance(resp, web.HTTPException):
            resp = self._refusal(request, from_http_exception(resp, request))
        if self._held:
            self._check_heads()
        return super().finish_response(request, resp, start_time)

    def _refusal(self, request: web.BaseRequest, failure: errors.ProxyError) -> web.Response:
        response = error_response(self.policy.form(failure))
        request_id = choose_request_id(request)
        response.headers.update({"x-request-id": request_id, "Server": SERVER_NAME, **self.always})
        self._log_refusal(response.status, failure.detail, request_id, request.remote)
        response.force_close()
        return response

    def _log_refusal(self, status: int, detail: str | None, request_id: str, client: str | None) -> None:
        peer = self.peername
        client = client or (peer[0] if isinstance(peer, tuple) else None)
        logger.warning(
            "refused before any layer",
            extra={"request_id": request_id, "client": client, "status": status, "detail": detail},
        )


def raw_response(form: ErrorForm, always: Mapping[str, str]) -> bytes:
    """An error as the bytes of a response, for what has no request to be answered."""
    body = error_body(form)
    headers = {
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Connection": "close",
        "Server": SERVER_NAME,
        "x-request-id": random_hex(8),
        **form.headers,
        **always,
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {form.status} {HTTPStatus(form.status).phrase}\r\n{head}\r\n".encode() + body


def _size_of(message: Any) -> int:
    return sum(len(name) + len(value) for name, value in getattr(message, "raw_headers", ()))


@asynccontextmanager
async def serve(
    app: web.Application,
    host: str,
    port: int,
    *,
    policy: FailurePolicy = FailurePolicy(),  # noqa: B008 (immutable)
    answer_headers: dict[str, str] | None = None,
    shutdown_timeout_s: float = 30,
    write_timeout_s: float = 60,
    shares_port: bool = False,
) -> AsyncIterator[int]:
    """Serve `app`, which has an ADMISSION, while the context lasts, and yield the port (a free one is
    chosen for 0). write_timeout_s: how long a client may not read. shares_port: with other processes, among which the
    kernel deals connections out.

    Leaving it stops listening, gives running answers `shutdown_timeout_s`, and tells the clients of
    those that are still not done.
    """
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=1)
    await runner.setup()
    manager = runner.server
    assert manager is not None
    options = {
        "policy": policy,
        "always": answer_headers or {},
        "admission": app[ADMISSION],
        "write_timeout_s": write_timeout_s,
    }
    protocol = type("Protocol", (ProxyProtocol,), options)

    def connection() -> Any:
        return protocol(
            manager,
            loop=asyncio.get_running_loop(),
            access_log=None,
            keepalive_timeout=KEEPALIVE_TIMEOUT_S,
            lingering_time=LINGERING_TIME_S,
            read_bufsize=READ_AHEAD_BYTES,
            max_line_size=MAX_HEADER_BYTES,
            max_field_size=MAX_HEADER_BYTES,
            auto_decompress=False,  # compressed bodies are refused, not inflated
        )

    try:
        server = await asyncio.get_running_loop().create_server(
            connection, host, port, backlog=1024, reuse_port=shares_port or None
        )
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            await _finish_answers(app[LIFECYCLE], manager, shutdown_timeout_s)
    finally:
        await runner.cleanup()


async def _finish_answers(lifecycle: Lifecycle, manager: web.Server, timeout_s: float) -> None:
    """Give what is running its time: first to be asked and answered, then to be read."""
    loop = asyncio.get_running_loop()
    lifecycle.draining = True
    deadline = loop.time() + timeout_s
    await lifecycle.wait_idle(timeout_s)
    if late := await lifecycle.expire():
        logger.warning("answers ended by the shutdown", extra={"answers": late})
    manager.pre_shutdown()  # ends idle connections
    await manager.shutdown(max(deadline - loop.time(), MIN_FLUSH_S))


async def serve_until_stopped(
    app: web.Application,
    host: str,
    port: int,
    *,
    drain_delay_s: float,
    announce: Any,
    ending: Collection[signal.Signals] = (signal.SIGTERM, signal.SIGINT),
    **options: Any,
) -> None:
    """Serve until SIGTERM or SIGINT.

    The first one turns readiness off, and `drain_delay_s` later the listener: balancers route to a
    stopping task for a moment. The second one ends the process at once, if it is one of `ending`.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal(received: signal.Signals) -> None:
        if stop.is_set() and received not in ending:
            return
        if stop.is_set():
            logger.warning(
                "second signal, ending at once",
                extra={"signal": received.name, "cut_answers": app[LIFECYCLE].answering},
            )
            app[ACCOUNTS].settle()
            for handler in logging.getLogger().handlers:
                handler.flush()
            signal.signal(received, signal.SIG_DFL)
            signal.raise_signal(received)
        lifecycle = app[LIFECYCLE]
        logger.info(
            "stopping; a second signal ends at once",
            extra={
                "signal": received.name,
                "running_answers": lifecycle.answering,
                "drain_delay_s": drain_delay_s,
                "shutdown_timeout_s": options.get("shutdown_timeout_s"),
            },
        )
        lifecycle.draining = True
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    async with serve(app, host, port, **options) as bound_port:
        announce(bound_port)
        await stop.wait()
        await asyncio.sleep(drain_delay_s)
    logger.info("stopped")


def has_c_parser() -> bool:
    """Whether aiohttp parses HTTP with its C parser; the Python one reads some requests differently."""
    return bool(http_parser.HttpRequestParser is not http_parser.HttpRequestParserPy)
