"""Opening several things at once, of which all or none are wanted."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, Protocol, TypeVar


class Closable(Protocol):
    def close(self) -> None: ...


C = TypeVar("C", bound=Closable)


async def open_all(openings: Sequence[Coroutine[Any, Any, C]]) -> list[C]:
    """The results of all, which run at once. If one fails, or the caller is cancelled, the others
    are cancelled, and what has been opened is closed."""
    tasks = [asyncio.ensure_future(opening) for opening in openings]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled() and task.exception() is None:
                task.result().close()
        raise
