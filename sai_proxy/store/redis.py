"""Values kept in a Redis or Valkey, for all replicas."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

from sai_proxy.store.blobs import MAX_AT_ONCE, BlobsUnavailable, TooLong

T = TypeVar("T")

CALL_TIMEOUT_S = 1.0


class RedisBlobs:
    """url: `redis://`, `rediss://` or `unix://`, with user, password and database if need be. expiry_s: since the
    last use. What it may hold in all is its own configuration's business."""

    held_bytes = 0

    def __init__(self, url: str, *, expiry_s: float) -> None:
        self._expiry_ms = round(expiry_s * 1000)
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=MAX_AT_ONCE,
            timeout=CALL_TIMEOUT_S,
            socket_timeout=CALL_TIMEOUT_S,
            socket_connect_timeout=CALL_TIMEOUT_S,
            retry=Retry(NoBackoff(), 1),  # a kept connection may be one that a restart has ended
            retry_on_error=[RedisConnectionError],
        )
        self._redis = Redis(connection_pool=pool)

    async def read(self, keys: list[str], most: int) -> list[bytes | TooLong | None]:
        """In one round trip: of a value that is too long only its beginning comes here."""

        async def call() -> list[bytes | TooLong | None]:
            async with self._redis.pipeline(transaction=False) as pipe:
                for key in keys:
                    pipe.strlen(key)
                    pipe.getrange(key, 0, most - 1)
                    pipe.pexpire(key, self._expiry_ms)
                answers = await pipe.execute()
            return [_value(*answers[at : at + 2]) for at in range(0, len(answers), 3)]

        return await _within(call)

    async def write(self, key: str, value: bytes) -> None:
        if not await _within(lambda: self._redis.set(key, value, px=self._expiry_ms)):
            raise BlobsUnavailable("it did not say that it has it")

    async def delete(self, key: str) -> bool:
        return bool(await _within(lambda: self._redis.delete(key)))

    async def close(self) -> None:
        await self._redis.aclose()
        await self._redis.connection_pool.disconnect()


def _value(size: object, begin: object) -> bytes | TooLong | None:
    """None for an empty one, too: nothing of ours is."""
    if not isinstance(size, int) or not isinstance(begin, bytes):
        raise TypeError(f"{type(size).__name__}, {type(begin).__name__}")
    return TooLong(size) if size > len(begin) else begin or None


async def _within(call: Callable[[], Awaitable[T]]) -> T:
    """The result of `call`, which has one deadline for waiting, connecting and answering. What speaks another protocol
    than Redis' makes its library raise anything: no answer may fail for that."""
    try:
        async with asyncio.timeout(2 * CALL_TIMEOUT_S):
            return await call()
    except Exception as exc:
        raise BlobsUnavailable(type(exc).__name__) from None  # its text may name the address, with a password
