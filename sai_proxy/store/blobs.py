"""Where values are kept under keys, for a while."""

from typing import NamedTuple, Protocol


class BlobsUnavailable(Exception):
    """The place where they are kept cannot be reached, or does not answer in time."""


MAX_AT_ONCE = 32
"""Calls of one process."""


class TooLong(NamedTuple):
    """In place of a value that is longer than was asked for."""

    size: int


class Blobs(Protocol):
    """Values by keys. Each expires some time after it was last written or read."""

    async def read(self, keys: list[str], most: int) -> list[bytes | TooLong | None]:
        """The values of these keys, None for those that are not there. most: bytes of a value. Raises
        BlobsUnavailable."""
        ...

    async def write(self, key: str, value: bytes) -> None:
        """Raises BlobsUnavailable."""
        ...

    async def delete(self, key: str) -> bool:
        """Whether it was there. Raises BlobsUnavailable."""
        ...

    async def close(self) -> None: ...

    @property
    def held_bytes(self) -> int:
        """What is held in this process."""
        ...
