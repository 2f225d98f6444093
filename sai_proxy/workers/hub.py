"""What the workers share, in their parent: the sum of their metrics, and the answers that are kept in memory."""

import asyncio

from sai_proxy.store.blobs import TooLong
from sai_proxy.store.memory import MemoryBlobs
from sai_proxy.telemetry.numbers import Snapshot, joined, lasting, with_gauge
from sai_proxy.workers.messages import (
    AllNumbers,
    DeleteValue,
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
    """What is known of one. ready: set when it listens. told: when it has said its numbers since it was asked to.
    heard: when anything came from it last, of the loop's clock."""

    def __init__(self, writer: asyncio.StreamWriter, ready: asyncio.Event) -> None:
        self.writer = writer
        self.ready = ready
        self.numbers = Snapshot()
        self.told = asyncio.Event()
        self.heard = asyncio.get_running_loop().time()


class Hub:
    """blobs: where the workers keep answers together."""

    def __init__(self, blobs: MemoryBlobs) -> None:
        self._blobs = blobs
        self._workers: set[Worker] = set()
        self._ended = Snapshot()

    async def serve(self, worker: Worker, reader: asyncio.StreamReader) -> None:
        """Answer one worker until it ends; then what it has counted stays counted."""
        self._workers.add(worker)
        telling: set[asyncio.Task[None]] = set()
        loop = asyncio.get_running_loop()
        try:
            while True:
                message = await read_message(reader)
                worker.heard = loop.time()
                match message:
                    case Ready():
                        worker.ready.set()
                    case Numbers():
                        worker.numbers = Snapshot.decode(message.snapshot)
                        worker.told.set()
                    case AllNumbers():  # which waits for others: not in the way of what comes next
                        task = loop.create_task(self._tell_all(worker, message))
                        telling.add(task)
                        task.add_done_callback(telling.discard)
                    case _:
                        worker.writer.write(frame(await self._answer(message)))
                        await worker.writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            pass  # it has ended
        finally:
            for task in telling:
                task.cancel()
            self._workers.discard(worker)
            self._ended = joined([self._ended, lasting(worker.numbers)])
            worker.writer.close()

    async def _answer(self, message: ReadValues | WriteValue | DeleteValue) -> Reply:
        match message:
            case ReadValues():
                values = await self._blobs.read(message.keys, message.most)
                told = [value.size if isinstance(value, TooLong) else value for value in values]
                return Reply(message.number, values=told)
            case WriteValue():
                await self._blobs.write(message.key, message.value)
                return Reply(message.number)
            case DeleteValue():
                return Reply(message.number, found=await self._blobs.delete(message.key))

    async def _tell_all(self, worker: Worker, message: AllNumbers) -> None:
        worker.numbers = Snapshot.decode(message.snapshot)
        worker.writer.write(frame(Reply(message.number, snapshot=(await self._of_all(worker)).encode())))

    async def _of_all(self, asking: Worker) -> Snapshot:
        """The numbers of all workers; those of the one that asks are fresh."""
        others = [worker for worker in self._workers if worker is not asking]
        for worker in others:
            worker.told.clear()
            worker.writer.write(frame(Reply()))
        if others:
            waiting = [asyncio.ensure_future(worker.told.wait()) for worker in others]
            _, late = await asyncio.wait(waiting, timeout=TELL_TIMEOUT_S)
            for task in late:
                task.cancel()
        numbers = joined([self._ended, *(worker.numbers for worker in self._workers)])
        return with_gauge(numbers, KEPT_BYTES, self._blobs.held_bytes)
