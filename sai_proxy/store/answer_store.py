"""The answers that are kept, each for who asked for it alone.

A key holds whose it is, as a keyed hash: for everybody else the answer is not there. While the place where answers
are kept cannot be reached, it is asked only now and then, so that nobody waits for it.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from sai_proxy.errors import StoreUnavailable
from sai_proxy.openai_api.kept_responses import Kept, Recalled, References, oldest_named
from sai_proxy.store.blobs import MAX_AT_ONCE, Blobs, BlobsUnavailable, TooLong
from sai_proxy.store.encoding import MAX_BLOB_BYTES, MAX_KEPT_BYTES, decode_kept, encode_kept, size_of

T = TypeVar("T")

logger = logging.getLogger(__name__)

REST_S = 5.0
"""How long an unreachable place is left alone."""

BATCH = 8
"""Answers that are read at once."""

INLINE_BYTES = 32 * 1024
"""A longer answer is compressed, or read, in a thread and by turns: 1 MiB takes some 10 ms."""

LONG_AT_ONCE = 2
"""Longer answers of one process that are read at once: while one is, it is there several times."""

Hold = Callable[[int], None]
"""Accounts for so many bytes. Raises ServerBusy."""


class AnswerStore:
    """on_use: told of each use, by operation and outcome, for metrics. now: a clock in seconds."""

    def __init__(self, blobs: Blobs, *, now: Callable[[], float], on_use: Callable[[str, str], None]) -> None:
        self._blobs = blobs
        self._now = now
        self._on_use = on_use
        self._rests_until: float | None = None
        self._turns = asyncio.Semaphore(MAX_AT_ONCE)
        self._long_turns = asyncio.Semaphore(LONG_AT_ONCE)

    @property
    def failing(self) -> bool:
        """Whether answers were out of reach when it was last tried."""
        return self._rests_until is not None

    @property
    def held_bytes(self) -> int:
        return self._blobs.held_bytes

    async def recall(self, owner: str, wanted: References, hold: Hold) -> Recalled:
        """What `wanted` refers to, as far as it is kept for `owner`. Raises StoreUnavailable."""
        previous = wanted.previous
        names = [*dict.fromkeys((*wanted.others, *([previous] if previous else [])))]
        recalled = await self._read(owner, names, hold)
        while previous and (oldest := oldest_named(previous, recalled)) is not None:
            earlier = [name for name in oldest.ancestors if name not in recalled]
            found = await self._read(owner, earlier, hold)
            recalled.update(found)
            if len(found) < len(earlier):
                break  # a part of it is gone, so that all of it is
        return recalled

    async def get(self, owner: str, name: str, hold: Hold) -> Kept | None:
        """One answer. Raises StoreUnavailable."""
        return (await self._read(owner, [name], hold)).get(name)

    async def keep(self, owner: str, kept: Kept) -> None:
        """Keep an answer. Never fails: an answer that cannot be kept is one that is not."""
        if size_of(kept) > MAX_KEPT_BYTES:
            logger.warning("an answer is too long to be kept", extra={"bytes": size_of(kept)})
            self._on_use("keep", "too_long")
            return
        blob = encode_kept(kept) if size_of(kept) <= INLINE_BYTES else await asyncio.to_thread(encode_kept, kept)
        with contextlib.suppress(StoreUnavailable):
            await self._use("keep", lambda: self._blobs.write(_key(owner, kept.id), blob))
            self._worked("keep", "ok")

    async def forget(self, owner: str, name: str) -> bool:
        """Delete an answer. Whether it was there. Raises StoreUnavailable."""
        found = await self._use("forget", lambda: self._blobs.delete(_key(owner, name)))
        self._worked("forget", "ok" if found else "missing")
        return found

    async def close(self) -> None:
        await self._blobs.close()

    async def _read(self, owner: str, names: list[str], hold: Hold) -> dict[str, Kept]:
        """A few at a time, each accounted for before the next are read."""
        found: dict[str, Kept] = {}
        for at in range(0, len(names), BATCH):
            found.update(await self._read_batch(owner, names[at : at + BATCH], hold))
        return found

    async def _read_batch(self, owner: str, names: list[str], hold: Hold) -> dict[str, Kept]:
        keys = [_key(owner, name) for name in names]
        blobs = await self._use("recall", lambda: self._blobs.read(keys, INLINE_BYTES))
        found: dict[str, Kept] = {}
        for name, key, blob in zip(names, keys, blobs, strict=True):
            kept = await self._read_long(key, blob.size, hold) if isinstance(blob, TooLong) else _decoded(blob)
            if kept is not None and kept.id != name:  # the answer to another question: nobody else's goes out
                logger.error("a kept answer came under another's name")
                kept = None
            if kept is not None:
                hold(size_of(kept))
                found[name] = kept
            self._worked("recall", "missing" if kept is None else "ok")
        return found

    async def _read_long(self, key: str, size: int, hold: Hold) -> Kept | None:
        """One that takes so much that it is accounted for before it is read, by turns."""
        async with self._long_turns:
            hold(size)
            (blob,) = await self._use("recall", lambda: self._blobs.read([key], MAX_BLOB_BYTES))
            kept = await asyncio.to_thread(_decoded, blob) if isinstance(blob, bytes) else None
            hold(-size)
        return kept

    async def _use(self, operation: str, call: Callable[[], Awaitable[T]]) -> T:
        """The result of `call`, when its turn has come: waiting for that is no failure of the place's. Raises
        StoreUnavailable."""
        self._refuse_while_resting(operation)
        async with self._turns:
            self._refuse_while_resting(operation)
            try:
                return await call()
            except BlobsUnavailable as exc:
                self._failed(operation, exc)
                raise StoreUnavailable(retry_after_s=round(REST_S)) from exc

    @property
    def _resting(self) -> bool:
        return self._rests_until is not None and self._now() < self._rests_until

    def _refuse_while_resting(self, operation: str) -> None:
        if self._resting:
            self._on_use(operation, "failed")
            raise StoreUnavailable(retry_after_s=round(REST_S))

    def _failed(self, operation: str, exc: BlobsUnavailable) -> None:
        if self._rests_until is None:
            logger.warning("kept answers are out of reach", extra={"detail": str(exc)})
        self._rests_until = self._now() + REST_S
        self._on_use(operation, "failed")

    def _worked(self, operation: str, outcome: str) -> None:
        if self._rests_until is not None:
            logger.warning("kept answers are in reach again")
            self._rests_until = None
        self._on_use(operation, outcome)


def _decoded(blob: bytes | None) -> Kept | None:
    return None if blob is None else decode_kept(blob)


def _key(owner: str, name: str) -> str:
    return f"sai-proxy:{owner}:{name}"
