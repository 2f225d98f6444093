"""Clients that read slowly, but do read."""

import asyncio
import json
import socket

from sai_proxy.simulator import Simulator
from tests.support import chat, environment, running_process

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
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        writer.write(head.encode() + body)
        await reader.readuntil(b"\r\n\r\n")
        received = 0
        while piece := await reader.read(2**18):
            received += len(piece)
            await asyncio.sleep(len(piece) / SIZE * 4 * WRITE_TIMEOUT_S)
        writer.close()
    assert received > SIZE
