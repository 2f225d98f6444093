"""Waiting for SAI while something is done at intervals: a heartbeat for the client."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Closable(Protocol):
    def close(self) -> None: ...


C = TypeVar("C", bound=Closable)
Beat = Callable[[], Awaitable[None]]


async def open_with_heartbeats(opening: Coroutine[Any, Any, C], interval_s: float, beat: Beat) -> C:
    """The result of `opening`, which runs undisturbed; every `interval_s` seconds, `beat`.

    If the caller is cancelled, or `beat` fails, the opening is cancelled; a result that came at
    that very moment is closed, since nobody else knows of it.
    """
    task = asyncio.ensure_future(opening)
    try:
        while not (await asyncio.wait({task}, timeout=interval_s))[0]:
            await beat()
    except BaseException:
        await _abandon([task])
        raise
    return task.result()


async def open_all(openings: Sequence[Coroutine[Any, Any, C]]) -> list[C]:
    """The results of all, which run at once. If one fails, or the caller is cancelled, the others
    are cancelled, and what has been opened is closed."""
    if len(openings) == 1:
        return [await openings[0]]
    tasks = [asyncio.ensure_future(opening) for opening in openings]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        await _abandon(tasks)
        raise


async def _abandon(tasks: "Sequence[asyncio.Future[C]]") -> None:
    """Cancel them, and close what they have opened."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled() and task.exception() is None:
            task.result().close()


async def read_with_heartbeats(read: Callable[[], Awaitable[T]], interval_s: float, beat: Beat) -> T:
    """The result of `read`, which must bear being cancelled and called again; every `interval_s`
    seconds, `beat`. Cheaper than a task for each piece."""
    while True:
        try:
            async with asyncio.timeout(interval_s):
                return await read()
        except TimeoutError:
            await beat()
