"""What Prometheus may know: counters and histograms of requests, made from their records.

Names follow Prometheus' conventions, and OpenTelemetry's `gen_ai.server.*` where one fits. Every
label's values are bounded: routes are templates, models those that are served, codes a closed list.
"""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.registry import Collector

from sai_proxy import __version__
from sai_proxy.errors.table import ERROR_TABLE
from sai_proxy.telemetry.numbers import Numbers, Snapshot
from sai_proxy.telemetry.record import CLIENT_STALLED, RequestRecord

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_SECONDS_A_TOKEN = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2.5)
_OVERHEAD = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5)
_LAG = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1)
_BY_ROUTE = ("route", "model")

KEPT_USES = (
    *(("keep", "ok"), ("keep", "failed"), ("keep", "too_long")),
    *(("recall", "ok"), ("recall", "missing"), ("recall", "failed")),
    *(("forget", "ok"), ("forget", "missing"), ("forget", "failed")),
)


class Metrics:
    """All metrics of one application, in a registry of its own."""

    def __init__(self) -> None:
        numbers = self.numbers = Numbers({"version": __version__})
        counter, gauge, histogram = numbers.counter, numbers.gauge, numbers.histogram
        self.requests = counter(
            "sai_proxy_requests",
            "Requests, by whose fault a failure was: none, caller, policy, sai or proxy.",
            ("route", "status", "model", "code", "fault"),
        )
        self.failures = counter(
            "sai_proxy_failures",
            "Requests that failed, each of these from 0 on, so that the first one is an increase.",
            ("code", "fault"),
        )
        for kind, row in ERROR_TABLE.items():
            self.failures.add(row.code or row.type, kind.fault, by=0)
        self.failures.add(CLIENT_STALLED, "caller", by=0)
        self.duration = histogram(
            "gen_ai_server_request_duration_seconds",
            "From a request's arrival to its answer's end.",
            _BY_ROUTE,
            bounds=_SECONDS,
        )
        self.first_byte = histogram(
            "gen_ai_server_time_to_first_token_seconds",
            "From a request's arrival to the first text from SAI.",
            _BY_ROUTE,
            bounds=_SECONDS,
        )
        self.per_token = histogram(
            "gen_ai_server_time_per_output_token_seconds",
            "Of streams, from the first text to the end, for each token but the first.",
            _BY_ROUTE,
            bounds=_SECONDS_A_TOKEN,
        )
        self.sai_wait = histogram(
            "sai_proxy_sai_wait_seconds", "Time of a request spent waiting for SAI.", ("model",), bounds=_SECONDS
        )
        self.overhead = histogram(
            "sai_proxy_overhead_seconds",
            "Time of a request not spent waiting for SAI or for its body; a client's slow reading counts.",
            ("route",),
            bounds=_OVERHEAD,
        )
        self.tokens = counter("sai_proxy_tokens", "Tokens, by direction.", ("model", "direction", "estimated"))
        self.retries = counter("sai_proxy_retries", "Further attempts at SAI.")
        self.fallbacks = counter("sai_proxy_fallbacks", "Requests that went on with the next credential.")
        self.credentials = counter(
            "sai_proxy_credentials",
            "Requests, by source and kind of the last credential used.",
            ("credential",),
        )
        self.disconnects = counter("sai_proxy_client_disconnects", "Clients that left early.", ("route",))
        self.guard_hits = counter("sai_proxy_guard_hits", "Conversations over the context limit.")
        self.unwrapped = counter("sai_proxy_unwrapped_messages", "Messages freed of an IDE's prompt.")
        self.tool_calls = counter("sai_proxy_tool_calls", "Tool calls read from text, by how it had them.", ("form",))
        self.call_repairs = counter("sai_proxy_tool_call_repairs", "Tool calls whose JSON was mended.")
        self.call_misreadings = counter("sai_proxy_tool_call_misreadings", "Texts that looked like a call only.")
        self.second_asks = counter("sai_proxy_second_asks", "Answers that were asked for once more, to be as demanded.")
        self.kept_answers = counter(
            "sai_proxy_kept_answers",
            "Uses of the answers that are kept for later requests, by what was done and what came of it.",
            ("operation", "outcome"),
        )
        for operation, outcome in KEPT_USES:
            self.kept_answers.add(operation, outcome, by=0)
        self.kept_bytes = gauge("sai_proxy_kept_bytes", "Bytes of kept answers in this process now.")
        self.models = gauge(
            "sai_proxy_models", "1 for each model that is served, with its road.", ("model", "road"), kind="most"
        )
        self.requests_in_flight = gauge("sai_proxy_requests_in_flight", "Requests to a model now.")
        self.streams_in_flight = gauge("sai_proxy_streams_in_flight", "Streamed answers now.")
        self.connections = gauge("sai_proxy_connections", "Open connections of clients now.")
        self.held_bytes = gauge("sai_proxy_held_bytes", "Bytes of heads, bodies, questions and answers held now.")
        self.open_circuits = gauge("sai_proxy_open_circuits", "Templates that are left alone now, since SAI fails.")
        self.resting_credentials = gauge("sai_proxy_resting_credentials", "Credentials that rest now after a 429.")
        self.loop_lag = histogram("sai_proxy_event_loop_lag_seconds", "How late the event loop wakes up.", bounds=_LAG)
        self.registry = CollectorRegistry()
        self.registry.register(numbers)

    def observe(self, record: RequestRecord) -> None:
        """Count a request that has ended."""
        route, model, duration_s = record.route, record.model or "", record.ended - record.started
        self.requests.add(route, str(record.status), model, record.error or "none", record.fault or "none")
        if record.error:
            self.failures.add(record.error, record.fault or "none")
        if record.client_disconnected:
            self.disconnects.add(route)
        if not record.model:
            return
        self.duration.observe(duration_s, route, model)
        self.overhead.observe(max(duration_s - record.sai_wait_s - (record.upload_s or 0), 0), route)
        if record.first_byte is not None:
            self.first_byte.observe(record.first_byte - record.started, route, model)
        if record.attempts:
            self.sai_wait.observe(record.sai_wait_s, model)
        if record.credential:
            self.credentials.add(record.credential)
        if record.prompt_tokens is not None and record.completion_tokens is not None:
            estimated = "true" if record.usage_estimated else "false"
            self.tokens.add(model, "input", estimated, by=record.prompt_tokens)
            self.tokens.add(model, "output", estimated, by=record.completion_tokens)
            if record.stream and record.first_byte is not None and record.completion_tokens > 1:
                after_first_s = record.ended - record.first_byte
                self.per_token.observe(after_first_s / (record.completion_tokens - 1), route, model)
        if record.retries:
            self.retries.add(by=record.retries)
        if record.fallback:
            self.fallbacks.add()
        if record.guarded:
            self.guard_hits.add()
        if record.unwrapped:
            self.unwrapped.add(by=record.unwrapped)
        if record.call_repairs:
            self.call_repairs.add(by=record.call_repairs)
        if record.call_misreadings:
            self.call_misreadings.add(by=record.call_misreadings)
        if record.second_asks:
            self.second_asks.add(by=record.second_asks)
        if record.call_forms:
            for form, count in record.call_forms.items():
                self.tool_calls.add(form, by=count)

    def kept_answer(self, operation: str, outcome: str) -> None:
        """Count a use of the answers that are kept."""
        self.kept_answers.add(operation, outcome)

    def render(self, of_all: Snapshot | None = None) -> bytes:
        """Prometheus' text format. of_all: the numbers of several processes, in place of this one's."""
        if of_all is None:
            return generate_latest(self.registry)
        registry = CollectorRegistry()
        registry.register(_Told(self.numbers, of_all))
        return generate_latest(registry)


class _Told(Collector):
    def __init__(self, numbers: Numbers, snapshot: Snapshot) -> None:
        self._numbers, self._snapshot = numbers, snapshot

    def collect(self) -> Iterator[Metric]:
        return self._numbers.told(self._snapshot)
