"""Clients that close their sending side, and go on reading."""

import asyncio
import json
import signal
import socket

from sai_proxy.simulator import Simulator
from tests.support import Process, chat, environment, running_process, until


def request(body: bytes, target: str = "POST /v1/chat/completions HTTP/1.1") -> bytes:
    return f"{target}\r\nHost: x\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body


BODY = json.dumps(chat("[[pause=0.3]][[answer=all of it]]")).encode()


def connect(process: Process, *, receive_bytes: int = 0) -> socket.socket:
    sock = socket.socket()
    if receive_bytes:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    sock.settimeout(20)
    sock.connect(("127.0.0.1", int(process.proxy.url.rsplit(":", 1)[1])))
    return sock


def read_to_end(sock: socket.socket) -> bytes:
    received = b""
    while piece := sock.recv(65_536):
        received += piece
    return received


async def test_whoever_closes_that_side_while_it_waits_is_answered(sai: Simulator) -> None:
    async with running_process(environment(sai.url)) as process:
        with connect(process) as sock:
            sock.sendall(request(BODY))
            await until(lambda: sai.calls)
            sock.shutdown(socket.SHUT_WR)
            assert b"all of it" in await asyncio.to_thread(read_to_end, sock)


async def test_whoever_closes_that_side_with_the_last_byte_is_answered(sai: Simulator) -> None:
    """As `nc -N` does. Request and end are there when the server looks."""
    async with running_process(environment(sai.url)) as process:
        with connect(process) as sock:
            process.signal(signal.SIGSTOP)
            sock.sendall(request(BODY))
            sock.shutdown(socket.SHUT_WR)
            process.signal(signal.SIGCONT)
            assert b"all of it" in await asyncio.to_thread(read_to_end, sock)


async def test_whoever_closes_that_side_while_a_file_is_sent_gets_all_of_it(sai: Simulator) -> None:
    async with running_process(environment(sai.url)) as process:
        with connect(process, receive_bytes=4096) as sock:
            sock.sendall(request(b"", "GET /docs/swagger-ui-bundle.js HTTP/1.1"))
            received = await asyncio.to_thread(sock.recv, 1000)
            sock.shutdown(socket.SHUT_WR)
            received += await asyncio.to_thread(read_to_end, sock)
    head, _, body = received.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
