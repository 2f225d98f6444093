import pytest

from sai_proxy.store.blobs import TooLong
from sai_proxy.store.memory import ENTRY_BYTES, MemoryBlobs


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def read(blobs: MemoryBlobs, keys: list[str]) -> list[bytes | TooLong | None]:
    return await blobs.read(keys, 1_000)


async def test_of_what_is_too_long_the_length_is_told() -> None:
    blobs = MemoryBlobs(max_bytes=100_000, expiry_s=10, now=Clock())
    await blobs.write("a", bytes(1_000))
    await blobs.write("b", bytes(1_001))
    assert await read(blobs, ["a", "b"]) == [bytes(1_000), TooLong(1_001)]
    assert await blobs.read(["b"], 2_000) == [bytes(1_001)]


async def test_what_is_written_is_read_and_deleted() -> None:
    blobs = MemoryBlobs(max_bytes=10_000, expiry_s=10, now=Clock())
    await blobs.write("a", b"1")
    await blobs.write("a", b"22")
    assert await read(blobs, ["a", "b"]) == [b"22", None]
    assert blobs.held_bytes == ENTRY_BYTES + 2
    assert await blobs.delete("a")
    assert not await blobs.delete("a")
    assert (len(blobs), blobs.held_bytes) == (0, 0)


async def test_a_value_expires_after_its_last_use() -> None:
    clock = Clock()
    blobs = MemoryBlobs(max_bytes=10_000, expiry_s=10, now=clock)
    await blobs.write("a", b"1")
    await blobs.write("b", b"1")
    clock.now = 6
    assert await read(blobs, ["a"]) == [b"1"]
    clock.now = 12
    assert await read(blobs, ["a", "b"]) == [b"1", None]
    clock.now = 22
    assert await read(blobs, ["a"]) == [None]
    assert (len(blobs), blobs.held_bytes) == (0, 0)


@pytest.mark.parametrize("used", ["write", "delete"])
async def test_each_use_removes_what_has_expired(used: str) -> None:
    clock = Clock()
    blobs = MemoryBlobs(max_bytes=10_000, expiry_s=10, now=clock)
    await blobs.write("a", b"1")
    clock.now = 11
    if used == "write":
        await blobs.write("b", b"1")
        assert len(blobs) == 1
    else:
        assert not await blobs.delete("a")
        assert (len(blobs), blobs.held_bytes) == (0, 0)


async def test_what_was_not_used_longest_goes_first() -> None:
    blobs = MemoryBlobs(max_bytes=3 * (ENTRY_BYTES + 10), expiry_s=10, now=Clock())
    for key in "abc":
        await blobs.write(key, bytes(10))
    await read(blobs, ["a"])
    await blobs.write("d", bytes(10))
    assert [value is not None for value in await read(blobs, ["a", "b", "c", "d"])] == [True, False, True, True]
    assert blobs.held_bytes <= 3 * (ENTRY_BYTES + 10)


async def test_what_is_larger_than_all_is_not_taken_and_pushes_nothing_out() -> None:
    blobs = MemoryBlobs(max_bytes=1_000, expiry_s=10, now=Clock())
    await blobs.write("a", b"1")
    await blobs.write("b", bytes(2_000))
    assert await read(blobs, ["a", "b"]) == [b"1", None]
