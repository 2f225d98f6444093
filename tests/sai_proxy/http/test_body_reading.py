"""A large body is read beside others' work, not before it."""

import asyncio

from aiohttp import StreamReader
from aiohttp.base_protocol import BaseProtocol
from aiohttp.test_utils import make_mocked_request

from sai_proxy.http.admission import Admission
from sai_proxy.http.body_reading import read_body
from sai_proxy.http.draining import Lifecycle
from sai_proxy.telemetry.record import RequestRecord

PIECES = 50


class Refilled(BaseProtocol):
    """A connection on which the next piece is parsed as soon as one is read, as when the kernel has given many."""

    def __init__(self) -> None:
        super().__init__(asyncio.get_running_loop())
        self.left = PIECES
        self.body = StreamReader(self, 1, loop=self._loop)

    def resume_reading(self, resume_parser: bool = True) -> None:
        self._reading_paused = False
        if self.left:
            self.feed()

    def pause_reading(self) -> None:
        self._reading_paused = True

    def feed(self) -> None:
        self.left -= 1
        if self.left:
            self.body.feed_data(b"1234")
        else:
            self.body.feed_eof()


async def test_others_have_their_turn_between_two_pieces() -> None:
    connection = Refilled()
    connection.feed()
    seen = set()

    async def look() -> None:
        while connection.left:
            seen.add(connection.left)
            await asyncio.sleep(0)

    looking = asyncio.ensure_future(look())
    admission = Admission(max_requests=1, max_bytes=1_000, max_per_key=None)
    body = await read_body(
        make_mocked_request("POST", "/", payload=connection.body),
        admission.enter(),
        RequestRecord(request_id="r", method="POST", path="/", client=None, started=0),
        Lifecycle(),
        max_bytes=1_000,
        timeout_s=10,
    )
    await looking
    assert body == b"1234" * (PIECES - 1)
    assert len(seen) >= PIECES - 2
