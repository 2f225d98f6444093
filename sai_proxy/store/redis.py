"""Values kept in a Redis or Valkey, for all replicas."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

from sai_proxy.store.blobs import BlobsUnavailable

T = TypeVar("T")

CALL_TIMEOUT_S = 1.0
MAX_CONNECTIONS = 32


class RedisBlobs:
    """url: `redis://`, `rediss://` or `unix://`, with user, password and database if need be. expiry_s: since the
    last use. What it may hold in all is its own configuration's business."""

    held_bytes = 0

    def __init__(self, url: str, *, expiry_s: float) -> None:
        self._expiry_ms = round(expiry_s * 1000)
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=MAX_CONNECTIONS,
            timeout=CALL_TIMEOUT_S,
            socket_timeout=CALL_TIMEOUT_S,
            socket_connect_timeout=CALL_TIMEOUT_S,
            retry=Retry(NoBackoff(), 1),  # a kept connection may be one that a restart has ended
            retry_on_error=[RedisConnectionError],
        )
        self._redis = Redis(connection_pool=pool)

    async def read(self, keys: list[str]) -> list[bytes | None]:
        async def call() -> list[bytes | None]:
            async with self._redis.pipeline(transaction=False) as pipe:
                for key in keys:
                    pipe.getex(key, px=self._expiry_ms)
                return [_value(answer) for answer in await pipe.execute()]

        return await _within(call)

    async def write(self, key: str, value: bytes) -> None:
        if not await _within(lambda: self._redis.set(key, value, px=self._expiry_ms)):
            raise BlobsUnavailable("it did not say that it has it")

    async def delete(self, key: str) -> bool:
        return bool(await _within(lambda: self._redis.delete(key)))

    async def close(self) -> None:
        await self._redis.aclose()
        await self._redis.connection_pool.disconnect()


def _value(answer: object) -> bytes | None:
    if answer is None or isinstance(answer, bytes):
        return answer
    raise TypeError(type(answer).__name__)


async def _within(call: Callable[[], Awaitable[T]]) -> T:
    """The result of `call`, which has one deadline for waiting, connecting and answering. What speaks another protocol
    than Redis' makes its library raise anything: no answer may fail for that."""
    try:
        async with asyncio.timeout(2 * CALL_TIMEOUT_S):
            return await call()
    except Exception as exc:
        raise BlobsUnavailable(type(exc).__name__) from None  # its text may name the address, with a password
