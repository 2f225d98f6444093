"""Which place answers are kept in."""

from collections.abc import Callable

from sai_proxy.store.answer_store import AnswerStore
from sai_proxy.store.blobs import Blobs
from sai_proxy.store.memory import MemoryBlobs


def open_store(
    place: str,
    *,
    shared: Blobs | None = None,
    max_bytes: int,
    expiry_s: float,
    now: Callable[[], float],
    on_use: Callable[[str, str], None],
) -> AnswerStore:
    """place: `memory`, or the URL of a Redis. shared: memory that this process has together with others. max_bytes: in
    this process."""
    blobs: Blobs
    if place == "memory" and shared is not None:
        blobs = shared
    elif place == "memory":
        blobs = MemoryBlobs(max_bytes=max_bytes, expiry_s=expiry_s, now=now)
    else:
        from sai_proxy.store.redis import RedisBlobs  # takes a fifth of a second, which others need not pay

        blobs = RedisBlobs(place, expiry_s=expiry_s)
    return AnswerStore(blobs, now=now, on_use=on_use)
