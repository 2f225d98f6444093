"""Traces, sent over OTLP/HTTP to a collector that is played here."""

import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from sai_proxy.simulator import Simulator
from sai_proxy.telemetry.tracing import CLOSE_TIMEOUT_S
from tests.support import chat, environment, free_port, running_process

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


async def spans_of(
    sai: Simulator, text: str = "[[usage=3,4]] canary-text", path: str = "/v1/chat/completions"
) -> list[Any]:
    """The spans of one stream, a child of PARENT, of one failure, and of some probes."""
    received: list[Any] = []

    async def collect(request: web.Request) -> web.Response:
        export = ExportTraceServiceRequest.FromString(await request.read())
        received.extend(
            span for resource in export.resource_spans for scope in resource.scope_spans for span in scope.spans
        )
        names = {a.key: a.value.string_value for a in export.resource_spans[0].resource.attributes}
        assert names["service.name"] == "sai-proxy"
        return web.Response()

    app = web.Application()
    app.router.add_post("/v1/traces", collect)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    endpoint = f"http://127.0.0.1:{port}"
    async with running_process(environment(sai.url, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint)) as process:
        parent = {"traceparent": f"00-{TRACE}-{PARENT}-01", "x-api-key": "canary-key"}
        await process.proxy.post(chat(text, stream=True), path=path, headers=parent)
        await process.proxy.post({"model": "sai-model", "prompt": "[[status=500]]"}, path="/v1/completions")
        for probe in ("/health", "/health/readiness", "/metrics"):
            await process.proxy.get(probe)
        await process.stop()
    await runner.cleanup()
    return received


def attributes(span: Any) -> dict[str, Any]:
    found = {}
    for attribute in span.attributes:
        kind = attribute.value.WhichOneof("value")
        found[attribute.key] = getattr(attribute.value, kind)
    return found


def children(spans: list[Any], parent: Any) -> list[Any]:
    return [span for span in spans if span.parent_span_id == parent.span_id]


async def test_a_request_is_a_server_span_with_an_inference_in_it_and_in_that_the_call(sai: Simulator) -> None:
    spans = await spans_of(sai)
    assert len(spans) == 6
    server = next(span for span in spans if span.parent_span_id.hex() == PARENT)
    assert (server.trace_id.hex(), server.kind) == (TRACE, server.SPAN_KIND_SERVER)
    assert server.name == "POST /v1/chat/completions"
    assert attributes(server)["http.response.status_code"] == 200
    (inference,) = children(spans, server)
    assert (inference.name, inference.kind) == ("chat sai-model", inference.SPAN_KIND_CLIENT)
    found = attributes(inference)
    assert {name: found[name] for name in ("gen_ai.operation.name", "gen_ai.provider.name")} == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "sai",
    }
    assert found["gen_ai.request.model"] == "sai-model"
    assert (found["gen_ai.usage.input_tokens"], found["gen_ai.usage.output_tokens"]) == (3, 4)
    assert sai.url.endswith(f"{found['server.address']}:{found['server.port']}")
    (call,) = children(spans, inference)
    assert call.kind == call.SPAN_KIND_CLIENT
    assert attributes(call)["http.response.status_code"] == 200
    assert "canary" not in str(spans)


async def test_a_failure_is_named_in_the_spans_of_request_and_inference(sai: Simulator) -> None:
    spans = await spans_of(sai)
    server = next(span for span in spans if not span.parent_span_id)
    (inference,) = children(spans, server)
    assert inference.name == "text_completion sai-model"
    for span in (server, inference):
        assert attributes(span)["error.type"] == "upstream_error"
        assert span.status.code == span.status.STATUS_CODE_ERROR
        assert not span.events


async def test_a_malformed_answer_is_named_and_not_quoted(sai: Simulator) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nBad\x01Header: canary-header\r\n\r\n")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    sai.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    spans = await spans_of(sai)
    server.close()
    attempts = [span for span in spans if span.name == "POST" and span.kind == span.SPAN_KIND_CLIENT]
    assert attempts
    for span in attempts:
        assert attributes(span)["error.type"] == "ClientPayloadError"
        assert span.status.code == span.status.STATUS_CODE_ERROR
    assert not any(span.events for span in spans)
    assert "canary" not in str(spans)


async def test_an_answer_that_breaks_off_fails_its_inference(sai: Simulator) -> None:
    spans = await spans_of(sai, text="[[reset=middle]] canary-text")
    server = next(span for span in spans if span.parent_span_id.hex() == PARENT)
    (inference,) = children(spans, server)
    assert attributes(server)["http.response.status_code"] == 200
    assert attributes(inference)["error.type"] == "upstream_protocol"
    assert "gen_ai.usage.output_tokens" not in attributes(inference)


async def test_an_unknown_url_has_no_route(sai: Simulator) -> None:
    spans = await spans_of(sai, path="/nowhere")
    server = next(span for span in spans if span.parent_span_id.hex() == PARENT)
    assert server.name == "POST"
    assert not {"url.path", "http.route"} & set(attributes(server)), "whatever a stranger typed"


async def test_a_silent_collector_does_not_hold_the_process_back(sai: Simulator) -> None:
    async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)  # until the process has ended
        writer.close()
        await writer.wait_closed()
        left.set()

    left = asyncio.Event()
    collector = await asyncio.start_server(never_answer, "127.0.0.1", 0)
    endpoint = f"http://127.0.0.1:{collector.sockets[0].getsockname()[1]}"
    async with running_process(environment(sai.url, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint)) as process:
        await process.proxy.ask()
        process.signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), CLOSE_TIMEOUT_S + 4) == 0
    await asyncio.wait_for(left.wait(), 5)
    collector.close()


async def test_without_the_packages_there_is_a_warning(sai: Simulator, tmp_path: Path) -> None:
    (tmp_path / "opentelemetry.py").write_text("raise ImportError('not here', name='opentelemetry')")
    env = environment(sai.url, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1", PYTHONPATH=str(tmp_path))
    async with running_process(env) as process:
        assert (await process.proxy.ask()).status == 200
        assert any("sai-proxy[otel] is not installed" in line["message"] for line in process.lines)


async def test_the_context_is_passed_on_to_sai(sai: Simulator) -> None:
    await spans_of(sai)
    assert sai.calls[0].headers["Traceparent"].split("-")[1] == TRACE


async def test_nothing_of_it_is_imported_when_off(sai: Simulator) -> None:
    code = "import sai_proxy.process, sys; print([m for m in sys.modules if m.startswith('opentelemetry')])"
    run = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    out, _ = await run.communicate()
    assert out.decode().strip() == "[]"
    async with running_process(environment(sai.url)) as process:
        await process.proxy.ask(headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
    assert "Traceparent" not in sai.calls[0].headers
