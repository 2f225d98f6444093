"""SAI's endpoints beside `execute`: how each of them answers what a script wants."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from sai_proxy.simulator import execute
from sai_proxy.simulator.accounts import DENIED, refusal_of
from sai_proxy.simulator.directives import FOREVER_S, DirectiveFault, Script, read_script
from sai_proxy.simulator.execute import answer_text

_SSE = {"Content-Type": "text/event-stream"}


def text_of_messages(body: Any) -> str:
    """The text that the last message of a user's has, which holds the script."""
    messages = body.get("messages") if isinstance(body, dict) else None
    said = [m.get("content") for m in messages or () if isinstance(m, dict) and m.get("role") == "user"]
    content = said[-1] if said else ""
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content if isinstance(part, dict))
    return str(content or "")


async def chat_execute(request: web.Request, script: Script, body: Any) -> web.StreamResponse:
    """`expired` (max tokens used up), `nested`, `plain`."""
    text = answer_text(script, body)
    if "plain" in script:
        headers = {"Content-Type": "text/plain; charset=utf-8"}
        return await execute.send(request, script, headers, text.encode())
    message: Any = {"content": text} if "nested" in script else text
    document = {"message": message, "maxTokensExpired": "expired" in script, "toolHistoryId": "b" * 24}
    return await _send_document(request, script, document)


async def streaming_responses(request: web.Request, script: Script, body: Any) -> web.StreamResponse:
    """`deltas` (nothing else, but the closing event), `completed` (no deltas), `document` (JSON in place of events),
    `cut` (ends in mid-answer), `incomplete` (without `complete`), `unclosed` (without any closing event), `expired`
    (max tokens used up), `failed`."""
    text = answer_text(script, body)
    item = {"role": "assistant", "content": [{"type": "output_text", "text": text}]}
    completed: dict[str, Any] = {"type": "ResponseCompleted", "items": [item]}
    if "expired" in script:
        completed["response"] = {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    if "document" in script:
        return await _send_document(request, script, completed)
    response = web.StreamResponse(headers={**_SSE, "model": str((body.get("parameters") or {}).get("model"))})
    await response.prepare(request)
    await _event(response, "responsecreated", {"type": "ResponseCreated"})
    if "completed" not in script:
        await _deltas(request, response, script, text)
    if "failed" in script:
        await _event(response, "error", {"type": "Error", "message": "the provider failed"})
    elif "deltas" not in script:
        await _event(response, "contentpartdone", {"part": {"type": "output_text", "text": text}})
        await _event(response, "outputitemdone", {"item": item})
        if "unclosed" not in script:
            await _event(response, "responsecompleted", completed)
    if not {"incomplete", "unclosed", "failed"} & set(script.directives):
        await _event(response, "complete", {"status": "finished"})
    await response.write_eof()
    return response


async def _deltas(request: web.Request, response: web.StreamResponse, script: Script, text: str) -> None:
    pieces = execute.cut(text.encode(), script) if {"split", "pieces"} & set(script.directives) else None
    texts = _words(text) if pieces is None else _as_texts(pieces)
    for number, piece in enumerate(texts):
        if number and "delay" in script:
            await asyncio.sleep(script.seconds("delay"))
        if number == script.number("stall", -1):
            await asyncio.sleep(FOREVER_S)
        if {"cut", "reset"} & set(script.directives) and number >= len(texts) // 2:
            if "reset" in script:
                raise execute.reset(request)
            if request.transport is not None:
                request.transport.close()
            raise ConnectionResetError("cut on request")
        await _event(response, "outputtextdelta", {"type": "OutputTextDelta", "delta": piece})


def _words(text: str) -> list[str]:
    words = text.split(" ")
    return [word + " " * (number < len(words) - 1) for number, word in enumerate(words)]


def _as_texts(pieces: Any) -> list[str]:
    """Pieces of bytes as texts of about their size: an event holds whole characters."""
    text, at, texts = b"".join(pieces).decode(), 0, []
    for piece in pieces:
        texts.append(text[at : at + len(piece)])
        at += len(piece)
    return [piece for piece in texts if piece]


async def prompt(request: web.Request, script: Script, body: Any) -> web.StreamResponse:
    """`responses` answers in that API's form, `bare` in neither; `call=NAME` with `arguments=JSON` calls a tool;
    `finish=REASON`. Tools must be flat for `gpt-5*` models, unless `emea`, and nested for all others."""
    model = str(body.get("model"))
    if "functions" in body or not _tools_fit(model, body.get("tools") or []):
        return web.json_response({"error": f"the tools do not fit model {model}"}, status=400)
    text = answer_text(script, body)
    calls = _calls(script)
    if "bare" in script:
        return await _send_document(request, script, {"result": text})
    if "responses" in script:
        output = [{"type": "message", "content": [{"type": "output_text", "text": text}]}] if not calls else []
        output += [{"type": "function_call", "call_id": c["id"], **c["function"]} for c in calls]
        usage = {"input_tokens": 17, "output_tokens": len(text.split())}
        return await _send_document(request, script, {"output": output, "output_text": text, "usage": usage})
    message: dict[str, Any] = {"role": "assistant", "content": None if calls else text}
    if calls:
        message["tool_calls"] = calls
    reason = script.value("finish", "tool_calls" if calls else "stop")
    choice = {"index": 0, "message": message, "finish_reason": reason}
    usage = {"prompt_tokens": 17, "completion_tokens": len(text.split())}
    return await _send_document(request, script, {"model": model, "choices": [choice], "usage": usage})


def _calls(script: Script) -> list[dict[str, Any]]:
    names = [name for name in script.value("call").split(",") if name]
    return [
        {
            "id": f"call_{number}_of_sai",
            "type": "function",
            "function": {"name": name, "arguments": script.value("arguments", "{}")},
        }
        for number, name in enumerate(names)
    ]


def _tools_fit(model: str, tools: list[Mapping[str, Any]]) -> bool:
    flat = model.startswith("gpt-5") and "emea" not in model
    return all(("name" in tool) == flat for tool in tools) and not (tools and model.startswith("gemini-"))


async def mcp(request: web.Request) -> web.Response:
    """JSON-RPC. Failures arrive as text inside a normal result; `sse` frames the answer as an event."""
    body = await request.json()
    arguments = body["params"]["arguments"]
    try:
        script = read_script(str(arguments.get("input") or arguments.get("prompt") or ""))
    except DirectiveFault as fault:
        return web.Response(status=400, text=f"SAI simulator: {fault}")
    refusal = refusal_of(request.headers.get("X-Api-Key", ""), 1)
    text = answer_text(script, body) if refusal is None else refusal.body or DENIED
    answer = {"jsonrpc": "2.0", "id": body.get("id"), "result": {"content": [{"type": "text", "text": text}]}}
    if "sse" in script:
        return web.Response(text=f"data: {json.dumps(answer)}\n\n", headers=_SSE)
    return web.json_response(answer)


async def _send_document(request: web.Request, script: Script, document: Any) -> web.StreamResponse:
    headers = {"Content-Type": "application/json; charset=utf-8"}
    return await execute.send(request, script, headers, json.dumps(document, ensure_ascii=False).encode())


async def _event(response: web.StreamResponse, name: str, data: Any) -> None:
    await response.write(f"event: {name}\ndata: {json.dumps(data)}\n\n".encode())
