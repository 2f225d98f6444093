"""Clients of every kind, good and bad, each of whom knows what became of what it has asked."""

import asyncio
import gzip
import json
import re
import socket
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import aiohttp

from sai_proxy.simulator import RecordedCall
from tests.support import chat, until

CHAT = "/v1/chat/completions"
LONG_ANSWER_CHARS = 6_000_000
"""More than the kernel takes for a client that does not read."""

PAUSE_S = 0.5
PATIENCE_S = 60.0
"""For what must come, on a machine that has other things to do."""

_INTERIM = re.compile(rb"\A(?:HTTP/1\.1 102 [^\r]*\r\n\r\n)+")
_ERROR = re.compile(r'\{"error":\{"message":.*"type":"([^"]*)",.*"code":(?:"([^"]*)"|null)\}\}')
_CUT_AT_LENGTH = '"finish_reason":"length"'


class Outcome(NamedTuple):
    """How a request ended. code: of its error, as the log and the metrics name it."""

    status: int
    code: str = "none"


LEFT = Outcome(499)
STALLED = Outcome(499, "client_stalled")


def outcome_of(status: int, text: str) -> Outcome:
    """What a client has been told."""
    if found := _ERROR.search(text[-4000:]):
        return Outcome(status, found[2] or found[1])
    return Outcome(status, "context_length_exceeded" if _CUT_AT_LENGTH in text[-4000:] else "none")


class Calls(list[RecordedCall]):
    """In place of the simulator's record of calls, which would grow: their number, and who waits for one."""

    def __init__(self) -> None:
        super().__init__()
        self.received = 0
        self._expected: dict[str, asyncio.Event] = {}

    def append(self, call: RecordedCall) -> None:
        self.received += 1
        if event := self._expected.pop(call.body["inputs"]["user"], None):
            event.set()

    def expect(self, text: str) -> asyncio.Event:
        """Set when a call with this text has arrived."""
        return self._expected.setdefault(text, asyncio.Event())


@dataclass
class Clients:
    """asked: what became of each request, by its id, as its client saw it. logged: as the log lines have it.
    malformed: requests that were no HTTP. by_kind: how often each kind of client came."""

    port: int
    session: aiohttp.ClientSession
    calls: Calls
    asked: dict[str, Outcome] = field(default_factory=dict)
    logged: defaultdict[str, list[Outcome]] = field(default_factory=lambda: defaultdict(list))
    malformed: int = 0
    by_kind: Counter[str] = field(default_factory=Counter)

    def new_id(self) -> str:
        """Of a request that will be asked. Until it is known what became of it, nothing has."""
        name = f"soak-{len(self.asked)}"
        self.asked[name] = Outcome(0, "no answer")
        return name

    async def send(
        self, body: Any = None, *, path: str = CHAT, method: str = "POST", headers: Mapping[str, str] | None = None
    ) -> None:
        """An ordinary request, whose answer is read to its end."""
        name = self.new_id()
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        told = {"Content-Type": "application/json", "X-Request-ID": name, **(headers or {})}
        url = f"http://127.0.0.1:{self.port}{path}"
        async with self.session.request(method, url, data=data, headers=told) as response:
            self.asked[name] = outcome_of(response.status, await response.text())

    async def connect(self, *, room: int | None = None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """room: bytes that the kernel takes before they are read, for little of it."""
        sock = socket.socket()
        sock.setblocking(False)
        if room:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.port))
        return await asyncio.open_connection(sock=sock, limit=1024 if room else 2**16)

    async def converse(self, names: Sequence[str], pieces: Sequence[bytes]) -> None:
        """Send bytes, and read all that comes back."""
        reader, writer = await self.connect()
        for number, piece in enumerate(pieces):
            if number:
                await asyncio.sleep(0.05)
            writer.write(piece)
            await writer.drain()
        self.read_answers(names, await reader.read())
        writer.close()

    def read_answers(self, names: Sequence[str], received: bytes) -> None:
        """Note what `received` says became of these requests."""
        answers = re.split(rb"(?=HTTP/1\.[01] \d{3} )", _INTERIM.sub(b"", received))[1:]
        for name, answer in zip(names, answers, strict=False):
            self.asked[name] = outcome_of(int(answer[9:12]), answer.decode())


def raw(name: str, body: Any, *headers: str, version: str = "1.1", close: bool = True) -> bytes:
    """A request's bytes."""
    data = json.dumps(body).encode()
    lines = [f"POST {CHAT} HTTP/{version}", "Host: soak", f"X-Request-ID: {name}", f"Content-Length: {len(data)}"]
    lines += [*headers, *(["Connection: close"] if close else [])]
    return "\r\n".join([*lines, "", ""]).encode() + data


async def leaves_in_mid_stream(clients: Clients) -> None:
    name = clients.new_id()
    reader, writer = await clients.connect()
    writer.write(raw(name, chat("[[chars=400]][[pieces=4]][[stall=2]]", stream=True)))
    try:
        await reader.readuntil(b"data: ")
    except asyncio.IncompleteReadError as exc:  # on a machine that is too busy: it was refused
        clients.read_answers([name], exc.partial)
    else:
        clients.asked[name] = LEFT
    writer.close()


async def leaves_before_the_answer(clients: Clients) -> None:
    name = clients.new_id()
    text = f"[[silence=forever]] {name}"
    arrived = clients.calls.expect(text)
    _, writer = await clients.connect()
    writer.write(raw(name, chat(text)))
    await asyncio.wait_for(arrived.wait(), PATIENCE_S)
    writer.close()
    clients.asked[name] = LEFT


async def leaves_by_reset(clients: Clients) -> None:
    name = clients.new_id()
    text = f"[[silence=forever]] {name}"
    arrived = clients.calls.expect(text)
    _, writer = await clients.connect()
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    writer.write(raw(name, chat(text, stream=True)))
    await asyncio.wait_for(arrived.wait(), PATIENCE_S)
    writer.transport.abort()
    clients.asked[name] = LEFT


async def stops_reading(clients: Clients) -> None:
    name = clients.new_id()
    reader, writer = await clients.connect(room=4096)
    writer.write(raw(name, chat(f"[[chars={LONG_ANSWER_CHARS}]]")))
    await reader.readuntil(b"\r\n\r\n")
    await until(lambda: name in clients.logged, PATIENCE_S)
    writer.close()
    clients.asked[name] = STALLED


async def stops_reading_for_a_while(clients: Clients) -> None:
    name = clients.new_id()
    reader, writer = await clients.connect(room=2**18)
    writer.write(raw(name, chat(f"[[chars={LONG_ANSWER_CHARS}]]")))
    head = await reader.readuntil(b"\r\n\r\n")
    await asyncio.sleep(PAUSE_S)
    size = 0
    while piece := await reader.read(2**20):
        size += len(piece)
    writer.close()
    if size > LONG_ANSWER_CHARS:
        clients.asked[name] = Outcome(int(head[9:12]))


async def closes_its_sending_side(clients: Clients) -> None:
    await _close_half(clients, "[[pause=0.2]][[chars=500]]", stream=False)


async def closes_its_sending_side_and_streams(clients: Clients) -> None:
    await _close_half(clients, "[[pieces=3]][[delay=0.1]][[chars=500]]", stream=True)


async def _close_half(clients: Clients, what: str, *, stream: bool) -> None:
    name = clients.new_id()
    text = f"{what} {name}"
    arrived = clients.calls.expect(text)
    reader, writer = await clients.connect()
    writer.write(raw(name, chat(text, stream=stream)))
    await asyncio.wait_for(arrived.wait(), PATIENCE_S)
    writer.write_eof()
    clients.read_answers([name], await reader.read())
    writer.close()


async def uploads_slowly(clients: Clients) -> None:
    name = clients.new_id()
    data = raw(name, chat("x" * 3_000))
    await clients.converse([name], [data[:50], data[50:1_000], data[1_000:]])


async def asks_two_at_once(clients: Clients) -> None:
    first, second = clients.new_id(), clients.new_id()
    data = raw(first, chat("[[chars=20]]"), close=False) + raw(second, chat("[[chars=20]]"))
    await clients.converse([first, second], [data])


async def speaks_http_1_0(clients: Clients) -> None:
    name = clients.new_id()
    await clients.converse([name], [raw(name, chat("[[chars=200]]", stream=True), version="1.0")])


async def speaks_no_http(clients: Clients) -> None:
    reader, writer = await clients.connect()
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nno colon here\r\n\r\n")
    answer = await reader.read()
    writer.close()
    clients.malformed += answer.split(b" ")[1:2] == [b"400"]


Client = Callable[[Clients], Awaitable[None]]


def asks(body: Any, **options: Any) -> Client:
    """A client with an ordinary request, the same each time but for `{n}` in its text or its headers."""

    async def ask(clients: Clients) -> None:
        number = str(len(clients.asked))
        made = body if isinstance(body, bytes) else json.loads(json.dumps(body).replace("{n}", number))
        headers = {name: value.replace("{n}", number[-1]) for name, value in options.get("headers", {}).items()}
        await clients.send(made, **{**options, "headers": headers})

    return ask


OWN_KEY = {"X-Api-Key": "key-of-user-{n}"}

KINDS: dict[str, Client] = {
    "whole": asks(chat("[[pause=0.01]][[chars=2000]]")),
    "streamed": asks(chat("[[pieces=5]][[delay=0.01]][[chars=2000]]", stream=True)),
    "slow pieces": asks(chat("[[pieces=6]][[delay=0.2]][[chars=300]]", stream=True)),
    "two choices": asks(chat("[[chars=300]]", n=2)),
    "two choices, streamed": asks(chat("[[pieces=3]][[delay=0.01]][[chars=300]]", n=2, stream=True)),
    "legacy": asks({"model": "sai-model", "prompt": "[[chars=300]]"}, path="/v1/completions"),
    "legacy, streamed": asks({"model": "sai-model", "prompt": "[[chars=300]]", "stream": True}, path="/completions"),
    "a user's key": asks(chat("[[chars=100]]"), headers=OWN_KEY),
    "a user's bearer, streamed": asks(chat("Hi", stream=True), headers={"Authorization": "Bearer own-{n}"}),
    "a refused key": asks(chat(), headers={"X-Api-Key": "invalid-{n}"}),
    "an expired session": asks(chat(), headers={"X-Api-Key": ".AspNetCore.Cookies=expired-page-{n}"}),
    "a limited key": asks(chat("[[chars=100]]"), headers={"X-Api-Key": "limited-{n}"}),
    "zipped": asks(chat("[[chars=5000]][[gzip]]")),
    "zipped, streamed": asks(chat("[[chars=5000]][[gzip]][[pieces=4]][[delay=0.01]]", stream=True)),
    "500": asks(chat("[[status=500]]")),
    "500, streamed": asks(chat("[[status=500]][[body=html]]", stream=True)),
    "503 once": asks(chat("[[status=503]][[times=1]] {n}")),
    "503": asks(chat("[[status=503]][[retry-after=1]]")),
    "429": asks(chat("[[status=429]][[retry-after=1]]"), headers=OWN_KEY),
    "silent": asks(chat("[[silence=forever]]", stream=True)),
    "cut at its length": asks(chat("[[chars=500]][[cut=length]]")),
    "cut in mid-stream": asks(chat("[[chars=500]][[cut=chunked]][[pieces=4]][[delay=0.01]]", stream=True)),
    "reset before": asks(chat("[[reset=before]]")),
    "reset in mid-stream": asks(chat("[[chars=500]][[reset=middle]][[pieces=4]][[delay=0.01]]", stream=True)),
    "garbage": asks(chat("[[garbage=status]]")),
    "garbage in mid-answer": asks(chat("[[garbage=chunk]]")),
    "bytes too many": asks(chat("[[extra]]")),
    "no JSON": asks(b'{"model": "sai-model", "messages": ['),
    "a wrong type": asks(chat(n="one")),
    "no such model": asks({**chat(), "model": "nobody-knows-this"}),
    "too long": asks(chat("x" * 20_000)),
    "zipped request": asks(gzip.compress(b"{}"), headers={"Content-Encoding": "gzip"}),
    "no such page": asks(None, path="/nowhere", method="GET"),
    "models": asks(None, path="/v1/models", method="GET"),
    "leaves in mid-stream": leaves_in_mid_stream,
    "leaves before the answer": leaves_before_the_answer,
    "leaves by reset": leaves_by_reset,
    "stops reading": stops_reading,
    "stops reading for a while": stops_reading_for_a_while,
    "half-closed": closes_its_sending_side,
    "half-closed, streamed": closes_its_sending_side_and_streams,
    "uploads slowly": uploads_slowly,
    "two at once": asks_two_at_once,
    "HTTP/1.0": speaks_http_1_0,
    "no HTTP": speaks_no_http,
}
"""In the order in which they come, over and over."""
