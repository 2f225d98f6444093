"""The proxy as a process, a SAI that answers the bytes it is told, and a client that reads strictly."""

import json
import re
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support import ROOT, check_schema, environment, free_port, read_events

WAIT_S = 20.0
"""For what must come: far above the limits that the server is given."""

SILENCE_S = 0.2
GOOD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nhi"
SETTINGS = {"REQUEST_TIMEOUT": "1", "STREAM_IDLE_TIMEOUT": "0.5", "HEARTBEAT_SECONDS": "0.3", "SAI_COOKIE": ""}

_INTERIM = re.compile(rb"\AHTTP/1\.1 1\d\d [^\r\n]*\r\n(?:[^\r\n]+\r\n)*\r\n")
_HEAD = re.compile(rb"\AHTTP/(?:0\.9|1\.[01]) ([2-5]\d\d)(?: [^\r\n]*)?\r\n((?:[!-9;-~]+:[^\r\n]*\r\n)*)\r\n")
_CHUNK = re.compile(rb"\A([0-9a-f]+)\r\n", re.IGNORECASE)


class RawSai:
    """answer: what every request is answered. closes: whether the connection ends with it. connections: those on
    which a request has come, in order."""

    def __init__(self) -> None:
        self.answer: Sequence[bytes] = [GOOD]
        self.closes = False
        self.connections: list[int] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        number = 0
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                number += 1
                threading.Thread(target=self._serve, args=(connection, number), daemon=True).start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        with connection, suppress(OSError), connection.makefile("rb") as incoming:
            while first := incoming.readline():
                assert first.startswith(b"POST ")
                size = 0
                while (line := incoming.readline()).strip():
                    name, _, value = line.partition(b":")
                    size = int(value) if name.lower() == b"content-length" else size
                incoming.read(size)
                self.connections.append(number)
                for piece in self.answer:
                    connection.sendall(piece)
                if self.closes:
                    return

    def close(self) -> None:
        self._listener.close()


@dataclass
class Answer:
    """One response, read to its end."""

    status: int
    headers: dict[str, str]
    body: bytes

    def check(self) -> None:
        """It is either a valid answer, or says what is wrong in OpenAI's form; and never is that a bug of ours."""
        assert self.status != 500, self.body
        if self.status >= 400:
            check_error(json.loads(self.body))
        elif self.headers["content-type"].startswith("text/event-stream"):
            check_stream(self.body.decode())
        else:
            check_schema("chat_completion", json.loads(self.body))


def check_error(body: Any) -> None:
    assert body.keys() == {"error"}
    assert body["error"].keys() == {"message", "type", "param", "code"}
    check_schema("error", body)


def check_stream(text: str) -> None:
    """It ends with `[DONE]`, or with an error; never with both, and never without either."""
    *events, last = read_events(text)
    if last != "[DONE]":
        check_error(last)
        assert last["error"]["type"] != "server_error" or last["error"]["code"] is not None, "a bug of ours"
    for event in events:
        check_schema("chat_completion_chunk", event)


def read_answers(data: bytes, *, to_head: bool = False) -> list[Answer]:
    """All responses in `data`, which has to hold nothing else. to_head: HEAD was asked."""
    answers = []
    while data := _without_interim(data):
        head = _HEAD.match(data)
        assert head, f"no response: {data[:200]!r}"
        fields = [line.decode("latin-1").partition(":") for line in head[2].split(b"\r\n") if line]
        headers = {name.lower(): value.strip() for name, _, value in fields}
        data = data[head.end() :]
        if to_head or int(head[1]) in (204, 304):
            body = b""
        elif headers.get("transfer-encoding") == "chunked":
            body, data = _unchunk(data)
        elif "content-length" in headers:
            size = int(headers["content-length"])
            assert len(data) >= size, "a body that is cut off"
            body, data = data[:size], data[size:]
        else:
            body, data = data, b""
        answers.append(Answer(int(head[1]), headers, body))
    return answers


def _without_interim(data: bytes) -> bytes:
    """After which no other response has to follow: the client may have left."""
    while interim := _INTERIM.match(data):
        data = data[interim.end() :]
    return data


def _unchunk(data: bytes) -> tuple[bytes, bytes]:
    body = b""
    while True:
        size_line = _CHUNK.match(data)
        assert size_line, f"no chunk: {data[:100]!r}"
        start, size = size_line.end(), int(size_line[1], 16)
        chunk, end = data[start : start + size], data[start + size : start + size + 2]
        assert len(chunk) == size
        assert end == b"\r\n"
        data = data[start + size + 2 :]
        if not size:
            return body, data
        body += chunk


def request(
    body: bytes, *headers: str, target: str = "POST /v1/chat/completions HTTP/1.1", close: bool = True
) -> bytes:
    """A request's bytes."""
    lines = [target, "Host: proxy", f"Content-Length: {len(body)}", *headers, *(["Connection: close"] if close else [])]
    return "\r\n".join([*lines, "", ""]).encode() + body


@dataclass
class FuzzedServer:
    """read: how much of the log has been read."""

    port: int
    sai: RawSai
    log: Path
    process: subprocess.Popen[bytes]
    read: int = field(default=0)

    def exchange(self, data: bytes, *, stays: bool = False) -> bytes:
        """Send these bytes; all that comes back until the server closes. Once it has begun to answer, or stays
        silent for a moment, it is told that nothing more will come, unless the client `stays`."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=WAIT_S) as sock:
            with suppress(OSError):  # it may refuse before it has read all
                sock.sendall(data)
                if not stays:
                    select.select([sock], [], [], SILENCE_S)
                    sock.shutdown(socket.SHUT_WR)
            return _read_to_end(sock)

    def ask(self, data: bytes) -> Answer:
        """Send one whole request, with `Connection: close`, and read its one answer."""
        (answer,) = read_answers(self.exchange(data, stays=True))
        return answer

    def check_alive(self) -> None:
        """It goes on answering others."""
        answer = self.ask(request(b"", target="GET /health/liveness HTTP/1.1"))
        assert (answer.status, json.loads(answer.body)["status"]) == (200, "alive")

    def read_log_of_errors(self) -> list[str]:
        """Lines of level ERROR, or that are no log lines, since the last look."""
        marker = f"look-{self.read}"
        self.ask(request(b"", f"X-Request-ID: {marker}", target="GET /nowhere HTTP/1.1"))
        deadline = time.monotonic() + WAIT_S
        while f'"{marker}"'.encode() not in (text := self.log.read_bytes()[self.read :]):
            assert time.monotonic() < deadline, "nothing is logged any more"
            time.sleep(0.01)
        new = text[: text.rfind(b"\n") + 1]
        self.read += len(new)
        return [line for line in new.decode().splitlines() if not line.startswith("{") or '"level":"ERROR"' in line]


def _read_to_end(sock: socket.socket) -> bytes:
    received = b""
    try:
        while piece := sock.recv(65_536):
            received += piece
    except ConnectionResetError:
        pass  # after an answer to a request that was not read to its end
    return received


@contextmanager
def fuzzed_server(log: Path) -> Iterator[FuzzedServer]:
    """A process of its own, while the context lasts."""
    sai, port = RawSai(), free_port()
    env = environment(sai.url, HOST="127.0.0.1", PORT=str(port), **SETTINGS)
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [sys.executable, "-m", "sai_proxy", "serve"], cwd=ROOT, env=env, stdout=output, stderr=subprocess.STDOUT
        ) as process,
    ):
        try:
            deadline = time.monotonic() + WAIT_S
            while b'"listening"' not in log.read_bytes():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline
                time.sleep(0.02)
            yield FuzzedServer(port, sai, log, process)
        finally:
            process.kill()
            sai.close()
