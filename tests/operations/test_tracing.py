"""Traces, sent over OTLP/HTTP to a collector that is played here."""

import asyncio
import sys
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from sai_proxy.simulator import Simulator
from tests.support import environment, free_port, running_process

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


async def spans_of(sai: Simulator, **env: str) -> list[Any]:
    """The spans of one stream, one failure and one health probe, with the log's warnings checked."""
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
    async with running_process(environment(sai.url, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, **env)) as process:
        parent = {"traceparent": f"00-{TRACE}-{PARENT}-01", "x-api-key": "canary-key"}
        await process.proxy.ask("[[usage=3,4]] canary-text", stream=True, headers=parent)
        await process.proxy.ask("[[status=500]]")
        await process.stop()
    await runner.cleanup()
    return received


def attributes(span: Any) -> dict[str, Any]:
    found = {}
    for attribute in span.attributes:
        kind = attribute.value.WhichOneof("value")
        found[attribute.key] = getattr(attribute.value, kind)
    return found


async def test_a_request_is_a_server_span_with_the_call_to_sai_in_it(sai: Simulator) -> None:
    spans = await spans_of(sai)
    server = {span.span_id: span for span in spans if span.kind == span.SPAN_KIND_SERVER}
    clients = [span for span in spans if span.kind == span.SPAN_KIND_CLIENT]
    assert (len(server), len(clients)) == (2, 2)
    assert all(client.parent_span_id in server for client in clients)
    streamed = next(span for span in server.values() if span.trace_id.hex() == TRACE)
    assert streamed.parent_span_id.hex() == PARENT
    assert streamed.name == "POST /v1/chat/completions"
    found = attributes(streamed)
    assert found["gen_ai.request.model"] == "sai-model"
    assert (found["gen_ai.usage.input_tokens"], found["gen_ai.usage.output_tokens"]) == (3, 4)
    assert found["http.response.status_code"] == 200
    failed = next(span for span in server.values() if span.trace_id.hex() != TRACE)
    assert attributes(failed)["error.type"] == "upstream_error"
    assert failed.status.code == failed.status.STATUS_CODE_ERROR
    assert "canary" not in str(spans)


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
