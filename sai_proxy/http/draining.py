"""Whether the server is about to stop, and which answers are still running."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from sai_proxy.errors import ServerStopping


class Lifecycle:
    """draining: new work should go elsewhere, but running answers may finish."""

    def __init__(self) -> None:
        self.draining = False
        self._expired = False
        self._running: set[asyncio.Task[object]] = set()

    @property
    def answering(self) -> int:
        """How many answers are running."""
        return len(self._running)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Marks the current task as an answer in the making. Raises ServerStopping in it when its
        time is up, so that its client is told, instead of a cancellation."""
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            yield
        except asyncio.CancelledError:
            if not self._expired:
                raise
            task.uncancel()
            raise ServerStopping(retry_after_s=1) from None
        finally:
            self._running.discard(task)

    async def wait_idle(self, timeout_s: float) -> None:
        """Returns when no answer is running any more, or after `timeout_s`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while self._running and (left := deadline - loop.time()) > 0:
            await asyncio.wait(set(self._running), timeout=left)

    async def expire(self) -> int:
        """End what is still running, and return how many answers that were."""
        self._expired = True
        late = set(self._running)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=1)
        return len(late)
