import asyncio
import gc
import random
import tracemalloc
import zlib
from collections import Counter

import pytest
from msgspec import Raw

from sai_proxy.errors import ServerBusy, StoreUnavailable
from sai_proxy.openai_api.kept_responses import Kept, References
from sai_proxy.store.answer_store import INLINE_BYTES, LONG_AT_ONCE, REST_S, AnswerStore
from sai_proxy.store.blobs import MAX_AT_ONCE, BlobsUnavailable, TooLong
from sai_proxy.store.encoding import MAX_KEPT_BYTES, decode_kept, encode_kept
from sai_proxy.store.memory import MemoryBlobs


class Failing(MemoryBlobs):
    """Counts how often it was asked, and fails while `down`."""

    def __init__(self) -> None:
        super().__init__(max_bytes=10**8, expiry_s=1e9, now=lambda: 0)
        self.down = False
        self.asked = 0

    def _ask(self) -> None:
        self.asked += 1
        if self.down:
            raise BlobsUnavailable("down")

    async def read(self, keys: list[str], most: int) -> list[bytes | TooLong | None]:
        self._ask()
        return await super().read(keys, most)

    async def write(self, key: str, value: bytes) -> None:
        self._ask()
        await super().write(key, value)

    async def delete(self, key: str) -> bool:
        self._ask()
        return await super().delete(key)


class World:
    def __init__(self) -> None:
        self.now = 0.0
        self.uses: list[tuple[str, str]] = []
        self.blobs = Failing()
        self.store = AnswerStore(
            self.blobs, now=lambda: self.now, on_use=lambda operation, outcome: self.uses.append((operation, outcome))
        )


@pytest.fixture
def world() -> World:
    return World()


def answer(name: str, *ancestors: str, size: int = 10) -> Kept:
    return Kept(name, Raw(b'"' + b"x" * size + b'"'), Raw(b"[]"), ancestors)


def ignore(size: int) -> None:
    """Accounts for nothing."""


async def test_an_answer_is_recalled_with_its_ancestors(world: World) -> None:
    for kept in (answer("a"), answer("b", "a"), answer("c", "b"), answer("x")):
        await world.store.keep("me", kept)
    recalled = await world.store.recall("me", References("c", ("x",)), ignore)
    assert set(recalled) == {"a", "b", "c", "x"}
    assert bytes(recalled["b"].response) == bytes(answer("b").response)
    assert await world.store.recall("another", References("c", ("x",)), ignore) == {}


async def test_a_long_conversation_is_recalled_in_blocks(world: World) -> None:
    for number in range(100):
        named = [f"n{earlier}" for earlier in range(max(number - 8, 0), number)]
        await world.store.keep("me", answer(f"n{number}", *named))
    before = world.blobs.asked
    assert len(await world.store.recall("me", References("n99"), ignore)) == 100
    assert world.blobs.asked - before <= 14
    await world.store.forget("me", "n95")
    before = world.blobs.asked
    assert len(await world.store.recall("me", References("n99"), ignore)) < 100
    assert world.blobs.asked - before == 2, "what came before the one that is gone is of no use"


async def test_what_is_too_much_ends_the_reading(world: World) -> None:
    for number in range(100):
        await world.store.keep("me", answer(f"n{number}", size=1_000))
    before, left = world.blobs.asked, 10_000

    def refuse(size: int) -> None:
        nonlocal left
        left -= size
        if left < 0:
            raise ServerBusy

    with pytest.raises(ServerBusy):
        await world.store.recall("me", References(None, tuple(f"n{number}" for number in range(100))), refuse)
    assert world.blobs.asked - before <= 2


async def test_what_is_recalled_is_accounted_for(world: World) -> None:
    await world.store.keep("me", answer("a", size=5_000))
    sizes: list[int] = []
    await world.store.recall("me", References("a"), sizes.append)
    assert sum(sizes) > 5_000

    def refuse(size: int) -> None:
        raise ServerBusy

    with pytest.raises(ServerBusy):
        await world.store.recall("me", References("a"), refuse)


class Slow(MemoryBlobs):
    """Takes some turns of the loop for each call, and knows how many ran at once. down: from which call on it fails."""

    def __init__(self, down: int = 10**9) -> None:
        super().__init__(max_bytes=10**8, expiry_s=1e9, now=lambda: 0)
        self.running = self.most = self.asked = self.running_long = self.most_long = 0
        self.lengths: list[int] = []
        self._down = down

    async def read(self, keys: list[str], most: int) -> list[bytes | TooLong | None]:
        self.running += 1
        self.asked += 1
        self.most = max(self.most, self.running)
        long = most > INLINE_BYTES
        self.running_long += long
        self.most_long = max(self.most_long, self.running_long)
        try:
            for _ in range(10):
                await asyncio.sleep(0)
            if self.asked > self._down:
                raise BlobsUnavailable("down")
            values = await super().read(keys, most)
            self.lengths += [len(value) for value in values if isinstance(value, bytes)]
            return values
        finally:
            self.running -= 1
            self.running_long -= long


async def test_a_crowd_waits_for_its_turn_and_nobody_fails() -> None:
    """Waiting is no failure of the place: it would be left alone, with all that it holds."""
    blobs, uses = Slow(), Counter[tuple[str, str]]()
    store = AnswerStore(blobs, now=lambda: 0, on_use=lambda *use: uses.update([use]))
    await store.keep("me", answer("a"))
    found = await asyncio.gather(*(store.get("me", "a", ignore) for _ in range(1_000)))
    assert all(found)
    assert blobs.most == MAX_AT_ONCE
    assert uses == {("keep", "ok"): 1, ("recall", "ok"): 1_000}


async def test_who_has_waited_for_a_place_that_fails_meanwhile_does_not_ask_it() -> None:
    blobs = Slow(down=0)
    store = AnswerStore(blobs, now=lambda: 0, on_use=lambda *_: None)
    results = await asyncio.gather(*(store.get("me", "a", ignore) for _ in range(1_000)), return_exceptions=True)
    assert {type(result) for result in results} == {StoreUnavailable}
    assert blobs.asked == MAX_AT_ONCE


async def test_long_answers_are_accounted_for_before_they_are_read_and_come_by_turns() -> None:
    blobs = Slow()
    store = AnswerStore(blobs, now=lambda: 0, on_use=lambda *_: None)
    noise = random.Random(7)
    for number in range(8):
        text = b'"' + noise.randbytes(200_000).hex().encode() + b'"'
        await store.keep("me", Kept(f"n{number}", Raw(text), Raw(b"[]")))
    held: list[int] = []

    def hold(size: int) -> None:
        held.append(size)
        raise ServerBusy

    wanted = References(None, tuple(f"n{number}" for number in range(8)))
    with pytest.raises(ServerBusy):
        await store.recall("me", wanted, hold)
    assert (len(held), blobs.lengths) == (1, []), "refused before the first of them was here"
    sums: list[int] = []
    await asyncio.gather(*(store.recall("me", wanted, sums.append) for _ in range(10)))
    assert len(blobs.lengths) == 80
    assert sum(sums) == 80 * 400_004
    assert blobs.most_long == LONG_AT_ONCE


async def test_a_place_that_is_down_costs_what_it_holds_and_is_left_alone_for_a_while(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await world.store.keep("me", answer("a"))
    world.blobs.down = True
    await world.store.keep("me", answer("b"))
    assert world.store.failing
    for _ in range(3):
        await world.store.keep("me", answer("c"))
        with pytest.raises(StoreUnavailable):
            await world.store.get("me", "a", ignore)
        with pytest.raises(StoreUnavailable):
            await world.store.forget("me", "a")
    assert world.blobs.asked == 2
    assert [use for use in world.uses if use[1] == "failed"] == world.uses[1:]
    world.blobs.down = False
    world.now += REST_S
    assert await world.store.get("me", "a", ignore) is not None
    assert [world.store.failing] == [False]
    assert [record.message for record in caplog.records] == [
        "kept answers are out of reach",
        "kept answers are in reach again",
    ]


async def test_what_could_not_be_deleted_says_so_and_lets_the_place_rest(world: World) -> None:
    await world.store.keep("me", answer("a"))
    world.blobs.down = True
    with pytest.raises(StoreUnavailable):
        await world.store.forget("me", "a")
    assert world.store.failing
    asked = world.blobs.asked
    await world.store.keep("me", answer("b"))
    assert world.blobs.asked == asked


async def test_an_answer_that_is_too_long_is_not_kept(world: World) -> None:
    await world.store.keep("me", answer("a", size=MAX_KEPT_BYTES))
    assert world.uses == [("keep", "too_long")]
    assert world.blobs.asked == 0


async def test_an_answer_that_comes_under_anothers_name_is_nobodys(world: World) -> None:
    """As of a connection that is one answer behind."""
    await world.blobs.write("sai-proxy:me:a", encode_kept(answer("b")))
    assert await world.store.get("me", "a", ignore) is None


async def test_a_long_answer_is_kept(world: World) -> None:
    kept = answer("a", size=3_000_000)
    await world.store.keep("me", kept)
    assert world.store.held_bytes < 100_000
    again = await world.store.get("me", "a", ignore)
    assert again is not None
    assert bytes(again.response) == bytes(kept.response)


async def test_ten_thousand_answers_take_no_more_than_they_may() -> None:
    """Memory as the allocator sees it, keys and objects included: text that does not compress, in two lengths."""
    most = 4 * 1024 * 1024
    store = AnswerStore(MemoryBlobs(max_bytes=most, expiry_s=1e9, now=lambda: 0), now=lambda: 0, on_use=lambda *_: None)
    noise = random.Random(7)
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(10_000):
            text = b'"' + noise.randbytes(200 if number % 2 else 2_000).hex().encode() + b'"'
            await store.keep("owner", Kept(f"resp_{number:048x}", Raw(text), Raw(b"[]"), ()))
        gc.collect()
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most / 2 < taken < 1.1 * most
    assert store.held_bytes <= most


@pytest.mark.parametrize(
    "blob", [b"", b"\x02", b"\x01garbage", encode_kept(answer("a"))[:-9], b"\x02" + encode_kept(answer("a"))[1:]]
)
def test_bytes_of_another_version_or_of_nobody_are_no_answer(blob: bytes) -> None:
    assert decode_kept(blob) is None


def test_a_bomb_is_no_answer() -> None:
    bomb = b"\x01" + zlib.compress(b'{"id":"' + b"x" * (3 * MAX_KEPT_BYTES) + b'"}')
    assert decode_kept(bomb) is None
