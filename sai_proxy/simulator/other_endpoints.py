"""SAI's endpoints beside `execute`, for the modules that will speak them.

The directives of `directives.py` decide the answer's text here too; further ones are named below.
"""

import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from sai_proxy.simulator.accounts import DENIED, LOGIN_URL, refusal_of
from sai_proxy.simulator.directives import Script, read_script
from sai_proxy.simulator.execute import answer_text

_SSE = {"Content-Type": "text/event-stream"}


def add_other_endpoints(app: web.Application) -> None:
    """Chat, streaming responses, prompt and MCP."""
    app.router.add_post("/api/templates/{id}/chatexecute", _chat_execute)
    app.router.add_post("/api/streaming-responses/stream", _streaming_responses)
    app.router.add_post("/api/prompt/v1/chat/completions", _prompt)
    app.router.add_post("/api/mcp", _mcp)


async def _chat_execute(request: web.Request) -> web.Response:
    """Cookie only. `expired` (max tokens used up), `nested`, `plain`, and `redirect` to a login page."""
    body = await request.json()
    script = _script_of(body.get("messages"))
    if "redirect" in script or not request.headers.get("Cookie") or "expired" in request.headers["Cookie"]:
        raise web.HTTPFound(LOGIN_URL)
    text = answer_text(script, body)
    if "plain" in script:
        return web.Response(text=text)
    message: Any = {"content": text} if "nested" in script else text
    return web.json_response(
        {"message": message, "maxTokensExpired": "expired" in script, "toolHistoryId": "bbbbbbbbbbbbbbbbbbbbbbbb"}
    )


async def _streaming_responses(request: web.Request) -> web.StreamResponse:
    """Cookie only. `deltas` (nothing else), `document` (JSON in place of events), `cut` (ends in
    mid-answer), `incomplete` (no last event)."""
    body = await request.json()
    script = _script_of(body.get("messages"))
    if not request.headers.get("Cookie"):
        raise web.HTTPFound(LOGIN_URL)
    text = answer_text(script, body)
    item = {"role": "assistant", "content": [{"type": "output_text", "text": text}]}
    if "document" in script:
        return web.json_response({"type": "ResponseCompleted", "items": [item]})
    response = web.StreamResponse(headers=_SSE)
    await response.prepare(request)
    await _event(response, "responsecreated", {"type": "ResponseCreated"})
    words = text.split(" ")
    for number, word in enumerate(words):
        if "cut" in script and number == len(words) // 2:
            if request.transport is not None:
                request.transport.close()
            raise ConnectionResetError("cut on request")
        await _event(
            response, "outputtextdelta", {"type": "OutputTextDelta", "delta": word + " " * (number < len(words) - 1)}
        )
    if "deltas" not in script:
        await _event(response, "contentpartdone", {"part": {"type": "output_text", "text": text}})
        await _event(response, "outputitemdone", {"item": item})
        await _event(response, "responsecompleted", {"type": "ResponseCompleted", "items": [item]})
        if "incomplete" not in script:
            await _event(response, "complete", {"status": "finished"})
    await response.write_eof()
    return response


async def _prompt(request: web.Request) -> web.Response:
    """Key only; 3xx for a bad one. `responses` answers in that API's form, `retry-after` with 429.
    Tools must be flat for `gpt-5*` models, unless `emea`, and nested for all others."""
    body = await request.json()
    script = _script_of(body.get("messages"))
    if refusal_of(request.headers.get("X-Api-Key", ""), 1):
        raise web.HTTPFound(LOGIN_URL)
    if "retry-after" in script:
        return web.Response(status=429, text="slow down", headers={"Retry-After": script.value("retry-after")})
    model = str(body.get("model"))
    if "functions" in body or not _tools_fit(model, body.get("tools") or []):
        return web.json_response({"error": f"the tools do not fit model {model}"}, status=400)
    text = answer_text(script, body)
    if "responses" in script:
        output = [{"type": "message", "content": [{"type": "output_text", "text": text}]}]
        return web.json_response(
            {"output": output, "output_text": text, "usage": {"input_tokens": 17, "output_tokens": len(text.split())}}
        )
    message = {"role": "assistant", "content": text}
    usage = {"prompt_tokens": 17, "completion_tokens": len(text.split())}
    return web.json_response({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage})


def _tools_fit(model: str, tools: list[Mapping[str, Any]]) -> bool:
    flat = model.startswith("gpt-5") and "emea" not in model
    return all(("name" in tool) == flat for tool in tools) and not (tools and model.startswith("gemini-"))


async def _mcp(request: web.Request) -> web.Response:
    """JSON-RPC. Failures arrive as text inside a normal result; `sse` frames the answer as an event."""
    body = await request.json()
    arguments = body["params"]["arguments"]
    script = read_script(str(arguments.get("input") or arguments.get("prompt") or ""))
    refusal = refusal_of(request.headers.get("X-Api-Key", ""), 1)
    text = answer_text(script, body) if refusal is None else refusal.body or DENIED
    answer = {"jsonrpc": "2.0", "id": body.get("id"), "result": {"content": [{"type": "text", "text": text}]}}
    if "sse" in script:
        return web.Response(text=f"data: {json.dumps(answer)}\n\n", headers=_SSE)
    return web.json_response(answer)


def _script_of(messages: Any) -> Script:
    content = messages[-1].get("content") if messages else ""
    return read_script(content if isinstance(content, str) else "".join(part.get("text", "") for part in content))


async def _event(response: web.StreamResponse, name: str, data: Any) -> None:
    await response.write(f"event: {name}\ndata: {json.dumps(data)}\n\n".encode())
