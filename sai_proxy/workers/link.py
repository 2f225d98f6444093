"""A worker's way to its parent."""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable
from itertools import count

from sai_proxy.store.blobs import BlobsUnavailable, TooLong
from sai_proxy.telemetry.numbers import Snapshot
from sai_proxy.workers.messages import (
    AllNumbers,
    DeleteValue,
    Message,
    Numbers,
    ReadValues,
    Ready,
    Reply,
    WriteValue,
    frame,
    read_reply,
)

logger = logging.getLogger(__name__)

PUSH_S = 1.0
"""How often the parent is told what was counted: so much is lost at most of a worker that falls."""

ANSWER_TIMEOUT_S = 2.0


class Unreachable(Exception):
    """The parent does not answer."""


class Link:
    """Questions to the parent, and what becomes of a worker whose parent has ended: it stops, as if it were told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._numbers = count(1)
        self._turn = asyncio.Lock()
        self._waiting: dict[int, asyncio.Future[Reply]] = {}
        self._snapshot: Callable[[], bytes] = lambda: Snapshot().encode()
        self._tasks = [asyncio.ensure_future(self._read())]

    def ready(self) -> None:
        """Tell the parent that this worker listens."""
        self._writer.write(frame(Ready()))

    def tell_numbers(self, snapshot: Callable[[], bytes]) -> None:
        """Tell the parent, from now on, what was counted: at intervals, and when it asks."""
        self._snapshot = snapshot

        async def tell() -> None:
            while True:
                await asyncio.sleep(PUSH_S)
                if not self._writer.transport.get_write_buffer_size():  # else the parent has not taken the last
                    self._writer.write(frame(Numbers(snapshot())))

        self._tasks.append(asyncio.ensure_future(tell()))

    async def all_numbers(self, snapshot: bytes) -> bytes:
        """What all workers have counted together. Raises Unreachable."""
        return (await self.ask(lambda number: AllNumbers(number, snapshot))).snapshot

    async def ask(self, question: Callable[[int], Message]) -> Reply:
        """question: makes the message with this number. Raises Unreachable."""
        number = next(self._numbers)
        answered: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answered
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                async with self._turn:  # what a parent that hangs does not take waits with whoever asks, not here
                    await self._writer.drain()
                    self._writer.write(frame(question(number)))
                return await answered
        except (OSError, TimeoutError, EOFError) as exc:
            raise Unreachable from exc
        finally:
            del self._waiting[number]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._writer.close()

    async def _read(self) -> None:
        try:
            while True:
                reply = await read_reply(self._reader)
                if not reply.number:
                    self._writer.write(frame(Numbers(self._snapshot())))
                    continue
                answered = self._waiting.get(reply.number)
                if answered is not None and not answered.done():  # whoever asked may have left
                    answered.set_result(reply)
        except (asyncio.IncompleteReadError, OSError):
            logger.warning("the parent process has ended: stopping")
            for answered in self._waiting.values():
                if not answered.done():
                    answered.set_exception(EOFError())
            os.kill(os.getpid(), signal.SIGTERM)


async def connect(descriptor: int) -> Link:
    """The link over one end of a pair of sockets, which the parent has handed down."""
    return Link(*await asyncio.open_connection(sock=socket.socket(fileno=descriptor)))


class SharedBlobs:
    """Values that all workers keep together, in their parent; which counts their bytes, too."""

    held_bytes = 0

    def __init__(self, link: Link) -> None:
        self._link = link

    async def read(self, keys: list[str], most: int) -> list[bytes | TooLong | None]:
        reply = await self._ask(lambda number: ReadValues(number, keys, most))
        return [TooLong(value) if isinstance(value, int) else value for value in reply.values]

    async def write(self, key: str, value: bytes) -> None:
        await self._ask(lambda number: WriteValue(number, key, value))

    async def delete(self, key: str) -> bool:
        return (await self._ask(lambda number: DeleteValue(number, key))).found

    async def close(self) -> None:
        """The link is closed by whoever has made it."""

    async def _ask(self, question: Callable[[int], Message]) -> Reply:
        try:
            return await self._link.ask(question)
        except Unreachable as exc:
            raise BlobsUnavailable("the parent process does not answer") from exc
