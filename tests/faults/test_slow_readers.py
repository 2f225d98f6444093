"""Clients that read slowly, but do read."""

import asyncio
import contextlib
import json
import socket
from contextlib import AsyncExitStack

from sai_proxy.simulator import Simulator
from tests.faults.raw_client import connect, request
from tests.integration.raw_upstream import head, raw_upstream
from tests.support import chat, environment, running_process, running_proxy, until

SIZE = 16_000_000
WRITE_TIMEOUT_S = 1.0


async def test_whoever_reads_steadily_gets_all_of_a_long_answer(sai: Simulator) -> None:
    """It takes some seconds for it, in none of which it stops."""
    async with running_process(environment(sai.url, WRITE_TIMEOUT=f"{WRITE_TIMEOUT_S:g}")) as process:
        body = json.dumps(chat(f"[[chars={SIZE}]]")).encode()
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**18)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, ("127.0.0.1", int(process.proxy.url.rsplit(":", 1)[1])))
        reader, writer = await asyncio.open_connection(sock=sock, limit=2**17)
        question = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        writer.write(question.encode() + body)
        await reader.readuntil(b"\r\n\r\n")
        received = 0
        while piece := await reader.read(2**18):
            received += len(piece)
            await asyncio.sleep(len(piece) / SIZE * 4 * WRITE_TIMEOUT_S)
        writer.close()
    assert received > SIZE


async def end_at_shutdown(size: int) -> tuple[int, bytes]:
    """How many answers were running then, and what a client gets that reads only when the server has stopped."""
    answer = head("Content-Type: text/plain", f"Content-Length: {size}") + b"q" * size
    async with raw_upstream(answer) as sai, AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(running_proxy(sai.url, SHUTDOWN_TIMEOUT="0.5"))
        client = await connect(proxy, receive_buffer=4096)
        await client.send(request(chat("x", stream=True)))
        received = await client.receive(100)
        await until(lambda: sai.heads and not any(w.transport.get_write_buffer_size() for w in sai.open))
        stopping = asyncio.ensure_future(stack.aclose())
        await until(lambda: proxy.lifecycle.draining)
        running = proxy.lifecycle.answering
        await until(lambda: proxy.lifecycle.expired or stopping.done())
        with contextlib.suppress(ConnectionError):
            while piece := await client.receive():
                received += piece
        client.close()
        await stopping
        return running, received


async def test_a_stream_whose_end_waits_for_its_reader_has_one_end_at_shutdown() -> None:
    """Of so many sizes some leave just the end of an answer for a kernel that takes no more."""
    ends = await asyncio.gather(*(end_at_shutdown(size) for size in range(60_000, 160_000, 2_500)))
    assert any(running for running, _ in ends)
    for _, received in ends:
        assert received.count(b"\r\n0\r\n\r\n") <= 1
        assert not (b"[DONE]" in received and b'"error":{' in received)
