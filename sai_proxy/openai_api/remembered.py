"""What was read last, since clients send much of it again with each request: agents, all their tools. Pure."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Remembered(Generic[T]):
    """Results of a pure function by what they were made of, the oldest of which goes first.

    max_bytes: of what all of them were made of. max_one: of that, for one to be worth it.
    """

    def __init__(self, *, max_bytes: int, max_one: int) -> None:
        self._max_bytes = max_bytes
        self._max_one = max_one
        self._held = 0
        self._results: OrderedDict[Hashable, tuple[int, T]] = OrderedDict()

    def get(self, made_of: Hashable) -> T | None:
        """None if it is not remembered."""
        found = self._results.get(made_of)
        if found is None:
            return None
        self._results.move_to_end(made_of)
        return found[1]

    def put(self, made_of: Hashable, size: int, result: T) -> None:
        """size: bytes of `made_of`, which is not remembered yet."""
        if size > self._max_one:
            return
        self._held += size
        self._results[made_of] = size, result
        while self._held > self._max_bytes:
            _, (oldest, _) = self._results.popitem(last=False)
            self._held -= oldest
