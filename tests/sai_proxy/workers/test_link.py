"""A worker whose parent hangs: what is asked of it waits, and is not heaped up."""

import asyncio
import socket

import pytest

from sai_proxy.workers import link as links
from sai_proxy.workers.link import Link, Unreachable
from sai_proxy.workers.messages import WriteValue

MIB = 2**20


async def test_a_parent_that_takes_nothing_costs_the_state_and_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "ANSWER_TIMEOUT_S", 0.2)
    monkeypatch.setattr(links, "PUSH_S", 0.001)
    ours, theirs = socket.socketpair()
    with theirs:
        reader, writer = await asyncio.open_connection(sock=ours)
        link = Link(reader, writer)
        link.tell_numbers(lambda: bytes(MIB))
        for _ in range(3):
            asked = [link.ask(lambda number: WriteValue(number, "k", bytes(MIB))) for _ in range(40)]
            results = await asyncio.gather(*asked, return_exceptions=True)
            assert {type(result) for result in results} == {Unreachable}
        assert writer.transport.get_write_buffer_size() < 4 * MIB
        await link.close()
        writer.transport.abort()
