"""Answers that are in the making at the same time."""

import asyncio

from sai_proxy.http.draining import Lifecycle


async def test_writes_follow_one_another_when_several_answers_are_ready() -> None:
    lifecycle = Lifecycle()
    seen: list[str] = []

    async def answer(name: str) -> None:
        with lifecycle.running() as running:
            await asyncio.sleep(0)  # as for SAI
            seen.append(f"made {name}")
            await running.catch_up()
            seen.append(f"written {name}")

    await asyncio.gather(*(answer(name) for name in "abc"))
    assert seen == [f"{what} {name}" for what in ("made", "written") for name in "abc"]


async def test_one_alone_does_not_wait() -> None:
    lifecycle = Lifecycle()
    turns: list[int] = []
    asyncio.get_running_loop().call_soon(turns.append, 1)
    with lifecycle.running() as running:
        await running.catch_up()
        assert turns == []
