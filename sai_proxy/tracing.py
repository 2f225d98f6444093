"""Spans for OpenTelemetry, if the packages are there (`sai-proxy[otel]`) and an endpoint is set.

Nothing of OpenTelemetry is imported otherwise, and no layer is added. Names follow its conventions
for HTTP and for generative AI; neither text nor keys travel.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sai_proxy import __version__
from sai_proxy.record import RequestRecord

KNOWN_METHODS = {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT"}

EndSpan = Callable[[int], None]


class TracingUnavailableError(Exception):
    """An endpoint is set, but the packages are missing."""


class Tracing:
    """Makes a span of each request. `provider` is a TracerProvider of OpenTelemetry's SDK."""

    def __init__(self, provider: Any) -> None:
        from opentelemetry import trace
        from opentelemetry.propagate import extract

        self._trace = trace
        self._extract = extract
        self._provider = provider
        self._tracer = provider.get_tracer("sai_proxy", __version__)

    @contextmanager
    def server_span(
        self, method: str, route: str, headers: Mapping[str, str], record: RequestRecord
    ) -> Iterator[EndSpan]:
        """A span around one request, a child of the caller's if `headers` name one (W3C). What it
        yields takes the status that went out."""
        method = method if method in KNOWN_METHODS else "_OTHER"
        with self._tracer.start_as_current_span(
            f"{'HTTP' if method == '_OTHER' else method} {route}",
            context=self._extract({name.lower(): value for name, value in headers.items()}),
            kind=self._trace.SpanKind.SERVER,
            attributes={"http.request.method": method, "http.route": route, "url.path": route, "url.scheme": "http"},
        ) as span:

            def end(status: int) -> None:
                span.set_attributes({"http.response.status_code": status, **_attributes(record, route)})
                if record.fault in ("sai", "proxy"):
                    span.set_status(self._trace.StatusCode.ERROR)

            yield end

    def client_trace_config(self) -> Any:
        """For the HTTP client: a span of each call to SAI, which also carries the context there."""
        from opentelemetry.instrumentation.aiohttp_client import create_trace_config

        return create_trace_config(tracer_provider=self._provider)

    def close(self) -> None:
        """Send what has not been sent."""
        self._provider.shutdown()


def _attributes(record: RequestRecord, route: str) -> dict[str, Any]:
    operation = "chat" if "/chat/" in route else "text_completion"
    attributes = {
        "gen_ai.operation.name": operation if record.model else None,
        "gen_ai.provider.name": "sai" if record.model else None,
        "gen_ai.request.model": record.model,
        "gen_ai.response.model": record.sai_model,
        "gen_ai.response.finish_reasons": [record.finish_reason] if record.finish_reason else None,
        "gen_ai.usage.input_tokens": record.prompt_tokens,
        "gen_ai.usage.output_tokens": record.completion_tokens,
        "error.type": record.error,
    }
    return {name: value for name, value in attributes.items() if value is not None}


def make_tracing(endpoint: str) -> Tracing:
    """Tracing that sends to an OTLP/HTTP endpoint, such as `http://collector:4318`. Everything else
    is set by OpenTelemetry's own variables. Raises TracingUnavailableError."""
    try:
        import opentelemetry.instrumentation.aiohttp_client  # noqa: F401
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as exc:
        raise TracingUnavailableError(f"missing: {exc.name}") from exc
    ours = Resource({"service.name": "sai-proxy", "service.version": __version__})
    resource = ours.merge(OTELResourceDetector().detect())  # OTEL_SERVICE_NAME and the like win
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces")))
    return Tracing(provider)
