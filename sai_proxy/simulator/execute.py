"""The simulator's `POST /api/templates/{id}/execute`: from a script to bytes, good or bad."""

import asyncio
import gzip
import json
import socket
import struct
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from sai_proxy.simulator.accounts import LOGIN_AS_PAGE, LOGIN_REDIRECT, Refusal
from sai_proxy.simulator.directives import FOREVER_S, Script

MODEL = "simulator"
_FILLER = "El veloz murciélago hindú comía feliz cardillo y kiwi. "
_ERROR_BODIES = {
    "text": ("Something went wrong", "text/plain"),
    "json": ('{"error": "Something went wrong", "message": "details"}', "application/json"),
    "html": ("<!DOCTYPE html><html><body><h1>Bad gateway</h1></body></html>", "text/html"),
}


def answer_text(script: Script, received: Any) -> str:
    """The model's answer."""
    if "empty" in script:
        text = ""
    elif "echo" in script:
        text = json.dumps(received, ensure_ascii=False)
    elif "chars" in script:
        chars = script.number("chars", 0)
        text = (_FILLER * (chars // len(_FILLER) + 1))[:chars]
    else:
        text = script.value("answer") or f"SAI simulator: you wrote «{script.text}»."
    return text[: script.number("truncate", len(text))]


def scripted_refusal(script: Script) -> Refusal | None:
    """An answer in place of the model's that the script asks for."""
    headers = {"Retry-After": script.value("retry-after")} if "retry-after" in script else {}
    if "status" in script:
        body = script.value("body", "text")
        text, content_type = _ERROR_BODIES.get(body, (body, "text/plain"))
        return Refusal(script.number("status", 500), text, content_type, headers)
    if "overflow" in script:
        return Refusal(500, "Error executing tool: prompt is too long: 210000 tokens > 200000 maximum")
    if "provider-error" in script:
        return Refusal(500, "Error in provider OpenAICompatible")
    if "redirect" in script:
        return Refusal(302, headers={"Location": script.value("redirect")})
    if "login" in script:
        return LOGIN_AS_PAGE if script.value("login") == "page" else LOGIN_REDIRECT
    return None


def answer_headers(script: Script, text: str, model: str) -> dict[str, str]:
    """SAI's own headers. Usage counts are made up, but not from the text's length alone: a proxy
    that estimated them could not be told from one that read them."""
    headers: dict[str, str] = {}
    match script.value("usage", "default"):
        case "none":
            pass
        case "bad":
            headers |= {"prompttokens": "many", "completiontokens": "-1"}
        case "default":
            headers |= {"prompttokens": "17", "completiontokens": str(len(text.split()))}
        case pair:
            headers["prompttokens"], _, headers["completiontokens"] = pair.partition(",")
    if script.value("model", model) != "none":
        headers["model"] = script.value("model", model)
    return headers


def answer_body(script: Script, text: str, *, json_only: bool) -> tuple[bytes, str]:
    """Body and content type. json_only: the caller accepts nothing but JSON."""
    content_type = "text/plain; charset=utf-8"
    if "double" in script:
        text = json.dumps(text)
    if "wrap" in script:
        text, content_type = json.dumps({script.value("wrap"): text}), "application/json; charset=utf-8"
    elif "json" in script or "double" in script or json_only:
        text, content_type = json.dumps(text), "application/json; charset=utf-8"
    body = bytes.fromhex(script.value("bytes")) if "bytes" in script else text.encode(script.value("encoding", "utf-8"))
    return body, script.value("type", content_type)


def cut(body: bytes, script: Script) -> Sequence[bytes]:
    """The pieces in which `body` is sent."""
    if "split" in script:
        size = max(script.number("split", 1), 1)
    elif "pieces" in script:
        size = -(-len(body) // max(script.number("pieces", 1), 1)) or 1
    else:
        return [body] if body else []
    return [body[at : at + size] for at in range(0, len(body), size)]


async def send(request: web.Request, script: Script, headers: dict[str, str], body: bytes) -> web.StreamResponse:
    """Send a successful answer the way the script wants it. Raises ConnectionError where it wants
    the connection broken."""
    if "gzip" in script or script.value("garbage") == "gzip":
        body = gzip.compress(body) if "gzip" in script else b"\x1f\x8b" + body
        headers["Content-Encoding"] = "gzip"
    match script.value("garbage"):
        case "status":
            raise _break(request, b"SAI/9 fine\r\n\r\n")
        case "header":
            raise _break(request, b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 65_536 + b"\r\n\r\n")
        case "chunk":
            raise _break(request, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\nhello\r\n")
    response = web.StreamResponse(headers=headers)
    if headers.get("Content-Type") == "none":
        del response.headers["Content-Type"]
    pieces = cut(body, script)
    if script.value("cut") == "length" or (len(pieces) <= 1 and not {"stall", "cut", "reset"} & set(script.directives)):
        response.content_length = len(body) + (script.value("cut") == "length")
    await response.prepare(request)
    if "pause" in script:
        await response.write(b"")
        await asyncio.sleep(script.seconds("pause"))
    broken_after = len(pieces) // 2 if "reset" in script or script.value("cut") == "chunked" else len(pieces)
    for number, piece in enumerate(pieces):
        if number == script.number("stall", -1):
            await asyncio.sleep(FOREVER_S)
        if number and "delay" in script:
            await asyncio.sleep(script.seconds("delay"))
        if number == broken_after:
            break
        await response.write(piece)
    if "reset" in script:
        raise reset(request)
    if "cut" in script:
        raise _break(request, b"")
    if "extra" in script and request.transport is not None:
        await asyncio.sleep(0.01)  # in a packet of their own, as after an answer that seemed complete
        request.transport.write(b"and some bytes more")
    await response.write_eof()
    return response


def _break(request: web.Request, data: bytes) -> ConnectionError:
    """Send raw bytes and close."""
    if request.transport is not None:
        request.transport.write(data)
        request.transport.close()
    return ConnectionResetError("broken on request")


def reset(request: web.Request) -> ConnectionError:
    """Reset the connection, as a crashing peer's kernel does."""
    if request.transport is not None:
        sock = request.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.transport.abort()
    return ConnectionResetError("reset on request")
