"""Spans for OpenTelemetry, if the packages are there (`sai-proxy[otel]`) and an endpoint is set.

Nothing of OpenTelemetry is imported otherwise, and no layer is added. Names follow its conventions
for HTTP and for generative AI; neither text nor keys travel.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from yarl import URL

from sai_proxy import __version__
from sai_proxy.conversation.chat import ChatRequest
from sai_proxy.errors import ProxyError
from sai_proxy.errors.table import ERROR_TABLE
from sai_proxy.telemetry.record import RequestRecord

KNOWN_METHODS = {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT"}

CLOSE_TIMEOUT_S = 2.0

EndSpan = Callable[[int], None]


class TracingUnavailableError(Exception):
    """An endpoint is set, but the packages are missing."""


class Attempt:
    """headers: to be sent with it. status: of its answer."""

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.status: int | None = None


class Tracing:
    """Makes the spans of a request: one of the server, in it one of what a model was asked, in that
    one each HTTP call. `provider` is a TracerProvider of OpenTelemetry's SDK. sai_url: SAI's base."""

    def __init__(self, provider: Any, sai_url: str) -> None:
        from opentelemetry import trace
        from opentelemetry.propagate import extract, inject

        self._trace = trace
        self._extract, self._inject = extract, inject
        self._provider = provider
        self._tracer = provider.get_tracer("sai_proxy", __version__)
        sai = URL(sai_url)
        self._sai = {"gen_ai.provider.name": "sai", "server.address": sai.host or "", "server.port": sai.port or 0}

    @contextmanager
    def server_span(
        self, method: str, route: str | None, path: str, headers: Mapping[str, str], record: RequestRecord
    ) -> Iterator[EndSpan]:
        """A span around one request, a child of the caller's if `headers` name one (W3C). What it
        yields takes the status that went out. route: the template of a known URL, and only of such
        a one is the path noted; path: percent-encoded."""
        method = method if method in KNOWN_METHODS else "_OTHER"
        with self._span(
            " ".join(filter(None, ("HTTP" if method == "_OTHER" else method, route))),
            context=self._extract({name.lower(): value for name, value in headers.items()}),
            kind=self._trace.SpanKind.SERVER,
            attributes={
                "http.request.method": method,
                "url.scheme": "http",
                **({"http.route": route, "url.path": path} if route else {}),
            },
        ) as span:

            def end(status: int) -> None:
                span.set_attribute("http.response.status_code", status)
                if record.error:
                    self._fail(span, record.error, is_error=record.fault in ("sai", "proxy"))
                elif status >= 500:
                    self._fail(span, str(status))

            yield end

    @contextmanager
    def inference_span(self, operation: str, chat: ChatRequest, record: RequestRecord) -> Iterator[None]:
        """A span around all that is asked of SAI for one request, until the answer's end. operation:
        a `gen_ai.operation.name`, such as `chat`."""
        with self._span(
            f"{operation} {chat.model}",
            kind=self._trace.SpanKind.CLIENT,
            attributes={"gen_ai.operation.name": operation, **self._sai, **_asked(chat)},
        ) as span:
            try:
                yield
            except ProxyError as exc:
                row = ERROR_TABLE[type(exc)]
                self._fail(span, row.code or row.type)
                raise
            except BaseException as exc:  # a client that leaves is a cancellation
                self._fail(span, type(exc).__qualname__, is_error=isinstance(exc, Exception))
                raise
            finally:
                span.set_attributes(_answered(record, chat.choices))
                if record.error:  # after the first byte
                    self._fail(span, record.error)

    def _span(self, name: str, **options: Any) -> Any:
        """Without OpenTelemetry's own notes about exceptions, which may quote what must not travel."""
        return self._tracer.start_as_current_span(
            name, record_exception=False, set_status_on_exception=False, **options
        )

    def _fail(self, span: Any, error: str, *, is_error: bool = True) -> None:
        span.set_attribute("error.type", error)
        if is_error:
            span.set_status(self._trace.StatusCode.ERROR)

    @contextmanager
    def attempt_span(self, method: str, url: URL) -> Iterator[Attempt]:
        """A span of one attempt at SAI, from the question to the answer's head, whose context travels there."""
        attributes = {
            "http.request.method": method,
            "url.full": str(url.with_query(None)),
            "server.address": url.host or "",
            "server.port": url.port or 0,
        }
        attempt = Attempt()
        with self._span(method, kind=self._trace.SpanKind.CLIENT, attributes=attributes) as span:
            self._inject(attempt.headers, context=self._trace.set_span_in_context(span))
            try:
                yield attempt
            except BaseException as exc:
                self._fail(span, type(exc).__qualname__, is_error=isinstance(exc, Exception))  # or the client has left
                raise
            if attempt.status is not None:
                span.set_attribute("http.response.status_code", attempt.status)
                if attempt.status >= 400:
                    self._fail(span, str(attempt.status))

    async def close(self) -> None:
        """Send what has not been sent, if that can be done soon: a collector that does not answer must
        not hold the process back."""
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()

        def shut_down() -> None:
            self._provider.shutdown()
            with suppress(RuntimeError):  # the loop did not wait so long
                loop.call_soon_threadsafe(ended.set)

        threading.Thread(target=shut_down, daemon=True).start()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await ended.wait()


def _asked(chat: ChatRequest) -> dict[str, Any]:
    attributes: dict[str, Any] = {"gen_ai.request.model": chat.model}
    if chat.choices != 1:
        attributes["gen_ai.request.choice.count"] = chat.choices
    return attributes


def _answered(record: RequestRecord, choices: int) -> dict[str, Any]:
    reason = record.finish_reason if choices == 1 else None  # the record has the first choice's alone
    attributes = {
        "gen_ai.response.model": record.sai_model,
        "gen_ai.response.finish_reasons": [reason] if reason else None,
        "gen_ai.usage.input_tokens": record.prompt_tokens,
        "gen_ai.usage.output_tokens": record.completion_tokens,
    }
    return {name: value for name, value in attributes.items() if value is not None}


def make_tracing(endpoint: str, sai_url: str) -> Tracing:
    """Tracing that sends to an OTLP/HTTP endpoint, such as `http://collector:4318`. Everything else
    is set by OpenTelemetry's own variables. Raises TracingUnavailableError."""
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as exc:
        raise TracingUnavailableError(f"missing: {exc.name}") from exc
    ours = Resource({"service.name": "sai-proxy", "service.version": __version__})
    resource = ours.merge(OTELResourceDetector().detect())  # OTEL_SERVICE_NAME and the like win
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)  # see Tracing.close
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces")))
    return Tracing(provider, sai_url)
