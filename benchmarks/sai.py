"""What plays SAI while speed is measured: it must never be what is waited for.

`Nginx` gives one answer, as fast as can be. `python -m benchmarks.sai PORT` streams as its question says,
`[[pieces=N]][[pause=SECONDS]]`, and writes into each piece when it has sent it: `@NANOSECONDS@`, of the machine's
monotonic clock, which all processes share.
"""

import asyncio
import contextlib
import re
import sys
import time
from pathlib import Path
from typing import cast

import uvloop

ANSWER = "SAI says something of ordinary length. " * 10
ANSWER = ANSWER[:375]
"""375 bytes, as in every figure of docs/performance.md."""

NGINX = """\
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
    uwsgi_temp_path {folder}; scgi_temp_path {folder};
    keepalive_requests 100000000;
    keepalive_timeout 300s;
    client_max_body_size 64m;
    client_body_buffer_size 1m;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        default_type text/plain;
        add_header prompttokens 17;
        add_header completiontokens 90;
        add_header model gpt-4o;
        location / {{ {what} }}
    }}
}}
"""


def nginx_config(folder: Path, port: int, what: str | None = None) -> Path:
    """A file that lets nginx play SAI, or do something else."""
    path = folder / f"nginx-{port}.conf"
    path.write_text(NGINX.format(folder=folder, port=port, what=what or f'return 200 "{ANSWER}";'))
    return path


HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nTransfer-Encoding: chunked\r\n"
    b"prompttokens: 17\r\ncompletiontokens: 90\r\nmodel: gpt-4o\r\n\r\n"
)
_LENGTH = re.compile(rb"\r\nContent-Length: *(\d+)", re.IGNORECASE)
_SCRIPT = re.compile(rb"\[\[pieces=(\d+)\]\]\[\[pause=([0-9.]+)\]\]")


class Streaming(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        for task in self._tasks:
            task.cancel()

    def data_received(self, data: bytes) -> None:
        received = self._buffer = self._buffer + data
        head_end = received.find(b"\r\n\r\n")
        if head_end < 0:
            return
        length = _LENGTH.search(received, 0, head_end)
        size = head_end + 4 + (int(length[1]) if length else 0)
        if len(received) < size:
            return
        script = _SCRIPT.search(received, head_end, size)
        self._buffer = received[size:]
        pieces, pause_s = (int(script[1]), float(script[2])) if script else (1, 0.0)
        task = asyncio.get_running_loop().create_task(self._answer(pieces, pause_s))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, pieces: int, pause_s: float) -> None:
        assert self._transport is not None
        self._transport.write(HEAD)
        for number in range(pieces):
            if number and pause_s:
                await asyncio.sleep(pause_s)
            piece = b"@%020d@" % time.monotonic_ns()
            self._transport.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self._transport.write(b"0\r\n\r\n")


async def serve(port: int) -> None:
    """Until it is ended."""
    server = await asyncio.get_running_loop().create_server(Streaming, "127.0.0.1", port, backlog=4096)
    with contextlib.suppress(asyncio.CancelledError):
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
