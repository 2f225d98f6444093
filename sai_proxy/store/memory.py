"""Values kept in this process, the least recently used ones given up first."""

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from sai_proxy.store.blobs import TooLong

ENTRY_BYTES = 512
"""What an entry takes beside its value: keys, and the objects around them. Measured, rounded up."""


class _Entry(NamedTuple):
    expires: float
    value: bytes


class MemoryBlobs:
    """max_bytes: of all values and what they take beside. expiry_s: since the last use. now: a clock in seconds."""

    def __init__(self, *, max_bytes: int, expiry_s: float, now: Callable[[], float]) -> None:
        self.held_bytes = 0
        self._max_bytes = max_bytes
        self._expiry_s = expiry_s
        self._now = now
        self._entries: OrderedDict[str, _Entry] = OrderedDict()  # the next one to expire first

    def __len__(self) -> int:
        return len(self._entries)

    async def read(self, keys: list[str], most: int) -> list[bytes | TooLong | None]:
        self._expire()
        values = map(self._use, keys)
        return [TooLong(len(value)) if value is not None and len(value) > most else value for value in values]

    async def write(self, key: str, value: bytes) -> None:
        self._remove(key)
        self._expire()
        size = len(value) + ENTRY_BYTES
        if size > self._max_bytes:
            return
        self._entries[key] = _Entry(self._now() + self._expiry_s, value)
        self.held_bytes += size
        while self.held_bytes > self._max_bytes:
            self._remove(next(iter(self._entries)))

    async def delete(self, key: str) -> bool:
        self._expire()
        return self._remove(key)

    async def close(self) -> None:
        self._entries.clear()
        self.held_bytes = 0

    def _use(self, key: str) -> bytes | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries[key] = _Entry(self._now() + self._expiry_s, entry.value)
        self._entries.move_to_end(key)
        return entry.value

    def _remove(self, key: str) -> bool:
        entry = self._entries.pop(key, None)
        if entry is None:
            return False
        self.held_bytes -= len(entry.value) + ENTRY_BYTES
        return True

    def _expire(self) -> None:
        now = self._now()
        while self._entries:
            key, entry = next(iter(self._entries.items()))
            if entry.expires > now:
                return
            self._remove(key)
