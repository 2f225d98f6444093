"""Whether the server is about to stop, and which answers are still running."""

import asyncio
from collections.abc import Callable

from sai_proxy.errors import ProxyError, ServerStopping
from sai_proxy.timeouts import Timeouts


class Lifecycle:
    """draining: new work should go elsewhere, but running answers may finish. expired: nor may those any more.
    tasks: of the answers that are running."""

    def __init__(self) -> None:
        self.draining = False
        self.expired = False
        self.loop: asyncio.AbstractEventLoop | None = None
        self.tasks: set[asyncio.Task[object]] = set()
        self.deadlines = Timeouts()

    @property
    def answering(self) -> int:
        """How many answers are running."""
        return len(self.tasks)

    def running(self, deadline: float | None = None, late: Callable[[], ProxyError] = ServerStopping) -> "Running":
        """Marks the current task as an answer in the making, while the context lasts. Raises ServerStopping in it
        when the server's time is up, so that its client is told, instead of a cancellation; and what `late` makes
        at `deadline`, of the loop's clock."""
        return Running(self, deadline, late)

    async def wait_idle(self, timeout_s: float) -> None:
        """Returns when no answer is running any more, or after `timeout_s`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while self.tasks and (left := deadline - loop.time()) > 0:
            await asyncio.wait(set(self.tasks), timeout=left)

    async def expire(self) -> int:
        """End what is still running, and return how many answers that were."""
        self.expired = True
        late = set(self.tasks)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=1)
        return len(late)


class Running:
    """The context of `Lifecycle.running`: written out, since it is entered twice a request."""

    __slots__ = ("_cancelling", "_deadline", "_is_late", "_late", "_lifecycle", "_task", "_timeout")

    def __init__(self, lifecycle: Lifecycle, deadline: float | None, late: Callable[[], ProxyError]) -> None:
        self._lifecycle = lifecycle
        self._deadline = deadline
        self._late = late
        self._is_late = False
        self._timeout: int | None = None

    def __enter__(self) -> "Running":
        lifecycle = self._lifecycle
        loop = lifecycle.loop
        if loop is None:  # asking for it is a system call on Python 3.11
            loop = lifecycle.loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        assert task is not None
        self._task: asyncio.Task[object] = task
        self._cancelling = task.cancelling()
        lifecycle.tasks.add(task)
        if self._deadline is not None:
            self._timeout = lifecycle.deadlines.at(self._deadline, self._expire)
        return self

    async def catch_up(self) -> None:
        """Let the other answers come as far as this one in this turn of the loop, since a write follows. Each write
        wakes its reader, if that sleeps, for more than all the rest of it costs; of writes that come one after another
        the first one does for all."""
        if len(self._lifecycle.tasks) > 1:
            await asyncio.sleep(0)

    def end_deadline(self) -> None:
        """What follows may take its time."""
        if self._timeout is not None:
            self._lifecycle.deadlines.cancel(self._timeout)
            self._timeout = None

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: object) -> None:
        if self._timeout is not None:
            self.end_deadline()
        task, lifecycle = self._task, self._lifecycle
        lifecycle.tasks.discard(task)
        if kind is not asyncio.CancelledError or not (self._is_late or lifecycle.expired):
            return
        if task.uncancel() > self._cancelling:
            return  # the client has left, too
        if self._is_late:
            raise self._late() from None
        raise ServerStopping(retry_after_s=1) from None

    def _expire(self) -> None:
        self._is_late = True
        self._task.cancel()
