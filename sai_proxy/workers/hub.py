"""What the workers share, in their parent: the sum of their metrics, and the answers that are kept in memory."""

import asyncio

from sai_proxy.store.blobs import TooLong
from sai_proxy.store.memory import MemoryBlobs
from sai_proxy.telemetry.numbers import Snapshot, joined, lasting, with_gauge
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
    read_message,
)

KEPT_BYTES = "sai_proxy_kept_bytes"


TELL_TIMEOUT_S = 0.5
"""A worker that does not say what it has counted by then is told of as it was."""


class Worker:
    """What is known of one. told: set when it has said its numbers since it was asked to."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.numbers = Snapshot()
        self.told = asyncio.Event()


class Hub:
    """blobs: where the workers keep answers together."""

    def __init__(self, blobs: MemoryBlobs) -> None:
        self._blobs = blobs
        self._workers: set[Worker] = set()
        self._ended = Snapshot()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ready: asyncio.Event) -> None:
        """Answer one worker until it ends; then what it has counted stays counted."""
        worker = Worker(writer)
        self._workers.add(worker)
        try:
            while True:
                reply = await self._answer(worker, await read_message(reader), ready)
                if reply is not None:
                    writer.write(frame(reply))
                    await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            pass  # it has ended
        finally:
            self._workers.discard(worker)
            self._ended = joined([self._ended, lasting(worker.numbers)])
            writer.close()

    async def _answer(self, worker: Worker, message: Message, ready: asyncio.Event) -> Reply | None:
        match message:
            case Ready():
                ready.set()
                return None
            case Numbers():
                worker.numbers = Snapshot.decode(message.snapshot)
                worker.told.set()
                return None
            case AllNumbers():
                worker.numbers = Snapshot.decode(message.snapshot)
                return Reply(snapshot=(await self._of_all(worker)).encode())
            case ReadValues():
                values = await self._blobs.read(message.keys, message.most)
                return Reply(values=[value.size if isinstance(value, TooLong) else value for value in values])
            case WriteValue():
                await self._blobs.write(message.key, message.value)
                return Reply()
            case DeleteValue():
                return Reply(found=await self._blobs.delete(message.key))

    async def _of_all(self, asking: Worker) -> Snapshot:
        """The numbers of all workers; those of the one that asks are fresh."""
        others = [worker for worker in self._workers if worker is not asking]
        for worker in others:
            worker.told.clear()
            worker.writer.write(frame(Reply(tell=True)))
        if others:
            waiting = [asyncio.ensure_future(worker.told.wait()) for worker in others]
            _, late = await asyncio.wait(waiting, timeout=TELL_TIMEOUT_S)
            for task in late:
                task.cancel()
        numbers = joined([self._ended, *(worker.numbers for worker in self._workers)])
        return with_gauge(numbers, KEPT_BYTES, self._blobs.held_bytes)
