"""A client that sends exactly the bytes it is told, and what every answer and every end has in common."""

import asyncio
import gc
import json
import logging
import socket
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from sai_proxy.http.admission import Admission
from sai_proxy.keys import ADMISSION
from tests.support import Proxy, chat, check_schema, request_lines, until

TARGET = "POST /v1/chat/completions HTTP/1.1"
PATIENCE_S = 20
"""For an answer: long, since it only limits how long a failing test takes."""


@dataclass
class Reply:
    """What came back, interim responses left out. ended: whether the server closed the connection."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    ended: bool

    @property
    def error(self) -> dict[str, Any]:
        error: dict[str, Any] = json.loads(self.body)["error"]
        return error


def head(*headers: str, target: str = TARGET) -> bytes:
    """A request's head, complete."""
    return "\r\n".join((target, "Host: x", *headers, "", "")).encode("latin-1")


def request(body: Any, *headers: str, target: str = TARGET) -> bytes:
    """A whole request. body: its bytes, or what becomes JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return head(f"Content-Length: {len(data)}", "Content-Type: application/json", *headers, target=target) + data


def ask(text: str = "Hello", *headers: str, **fields: Any) -> bytes:
    """A request with one user message, the last on its connection."""
    return request(chat(text, **fields), "Connection: close", *headers)


def read_reply(received: bytes, *, ended: bool = True) -> Reply:
    """The last of the responses in `received`, which are interim ones but for it."""
    while True:
        first, _, rest = received.partition(b"\r\n\r\n")
        status_line, *lines = first.decode("latin-1").split("\r\n")
        status = int(status_line.split()[1])
        if status >= 200:
            break
        received = rest
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return Reply(status, headers, rest, ended)


class Client:
    """One connection. Nothing is read from it unless somebody reads."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def receive(self, most: int = 65_536) -> bytes:
        """Some bytes; none at the end. Raises ConnectionResetError after a reset."""
        return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self.sock, most), PATIENCE_S)

    async def receive_until(self, last: bytes) -> bytes:
        """All up to `last`, and what came with it."""
        received = b""
        while last not in received:
            piece = await self.receive()
            assert piece, f"ended before {last!r}: {received!r}"
            received += piece
        return received

    async def receive_all(self) -> bytes:
        """All up to the end of the connection."""
        received = bytearray()
        while piece := await self.receive():
            received += piece
        return bytes(received)

    async def reply(self) -> Reply:
        """The answer, at whose end the server closes."""
        return read_reply(await self.receive_all())

    async def ended(self) -> None:
        """Returns when the server has closed or reset the connection; whatever it still sends is dropped."""
        try:
            await self.receive_all()
        except ConnectionError:
            return

    def stop_sending(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """As a client that is done does."""
        self.sock.close()

    def reset(self) -> None:
        """As a client whose process was killed with unread bytes does."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


async def connect(proxy: Proxy, *, receive_buffer: int | None = None) -> Client:
    """receive_buffer: bytes that the kernel takes for a client that does not read."""
    sock = socket.socket()
    sock.setblocking(False)
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", int(proxy.url.rsplit(":", 1)[1])))
    return Client(sock)


@asynccontextmanager
async def connected(proxy: Proxy, *, receive_buffer: int | None = None) -> AsyncIterator[Client]:
    client = await connect(proxy, receive_buffer=receive_buffer)
    try:
        yield client
    finally:
        client.close()


async def exchange(proxy: Proxy, data: bytes) -> Reply:
    """Send bytes on a connection of their own, and read what comes until the server closes it."""
    async with connected(proxy) as client:
        await client.send(data)
        return await client.reply()


def check_refusal(reply: Reply, status: int, code: str | None = None) -> None:
    """It is a refusal in OpenAI's form that can be found in the log."""
    assert reply.status == status, reply
    assert reply.headers["x-request-id"]
    assert reply.headers["content-type"].startswith("application/json")
    assert reply.headers["server"] == "sai-proxy"
    body = json.loads(reply.body)
    check_schema("error", body)
    assert body["error"]["code"] == code
    assert body["error"]["message"]


def admission_of(proxy: Proxy) -> Admission:
    return proxy.app[ADMISSION]


async def all_given_back(proxy: Proxy) -> None:
    """Returns when no request holds anything any more."""
    admission = admission_of(proxy)
    await until(lambda: not (admission.requests or admission.held or admission.by_key or proxy.lifecycle.answering))


def lines_of(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """The lines of requests that have ended, probes left out."""
    return [line for line in request_lines(caplog) if not line["path"].startswith("/health")]


async def line_of(caplog: pytest.LogCaptureFixture) -> dict[str, Any]:
    """The one line of the one request."""
    await until(lambda: lines_of(caplog))
    (line,) = lines_of(caplog)
    return line


def check_no_alarm(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing in the log would wake an operator: no error, no traceback, no task that died unseen."""
    gc.collect()
    assert [record for record in caplog.records if record.levelno >= logging.ERROR or record.exc_info] == []
