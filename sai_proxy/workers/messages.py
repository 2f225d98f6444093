"""What a worker and the parent say to each other, over a pair of sockets: frames of MessagePack, each with its length
before it. A worker numbers what it asks, and the parent its answers: one that takes time holds up no other. Pure, but
for the streams."""

import asyncio
import signal

import msgspec
from msgspec import Struct

ENDS_AT_ONCE = signal.SIGINT
"""Of the signals that a stopping worker gets, the one that its parent means so: whoever ends a service may send SIGTERM
to all of its processes, and the parent passes it on to them."""

LENGTH_BYTES = 4
MAX_FRAME_BYTES = 64 * 1024 * 1024


class Ready(Struct, tag=True):
    """The worker listens."""


class Numbers(Struct, tag=True):
    """A worker's metrics, as `telemetry.numbers` writes them: kept for when it ends. Answered with nothing."""

    snapshot: bytes


class AllNumbers(Struct, tag=True):
    """The same, answered with those of all workers together."""

    number: int
    snapshot: bytes


class ReadValues(Struct, tag=True):
    """Values that all workers keep together; see `store.blobs`."""

    number: int
    keys: list[str]
    most: int


class WriteValue(Struct, tag=True):
    number: int
    key: str
    value: bytes


class DeleteValue(Struct, tag=True):
    number: int
    key: str


Message = Ready | Numbers | AllNumbers | ReadValues | WriteValue | DeleteValue


class Reply(Struct):
    """What came of it, as far as it is asked for. values: bytes, the length of one that is too long, or None.
    number: of the question, 0 for none: then the worker's numbers are wanted."""

    number: int = 0
    values: list[bytes | int | None] = []
    snapshot: bytes = b""
    found: bool = False


_encoder = msgspec.msgpack.Encoder()
_message_decoder: "msgspec.msgpack.Decoder[Message]" = msgspec.msgpack.Decoder(Message)
_reply_decoder = msgspec.msgpack.Decoder(Reply)


def frame(content: Message | Reply) -> bytes:
    """The bytes of one frame."""
    body = _encoder.encode(content)
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


async def read_message(reader: asyncio.StreamReader) -> Message:
    """The next one. Raises IncompleteReadError at the end, and ValueError for what is none."""
    return _message_decoder.decode(await _read_frame(reader))


async def read_reply(reader: asyncio.StreamReader) -> Reply:
    """The next one. Raises IncompleteReadError at the end, and ValueError for what is none."""
    return _reply_decoder.decode(await _read_frame(reader))


async def _read_frame(reader: asyncio.StreamReader) -> bytes:
    length = int.from_bytes(await reader.readexactly(LENGTH_BYTES), "big")
    if length > MAX_FRAME_BYTES:
        raise ValueError("a frame is too long")
    return await reader.readexactly(length)
