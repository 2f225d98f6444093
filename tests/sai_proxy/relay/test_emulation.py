"""What a reply of text with tools or JSON keeps of it, and accounts for."""

import tracemalloc
from typing import Any

import pytest

from sai_proxy.conversation.chat import Usage
from sai_proxy.conversation.events import Event
from sai_proxy.conversation.offer import OutputFormat, Tool, Toolset
from sai_proxy.relay.emulation import MAX_SHOWN_CHARS, Demand, EmulatedReply
from sai_proxy.telemetry.record import RequestRecord

KIB = 1024
PIECE_BYTES = 32 * KIB
TOOL = Tool("get_weather")


class Text:
    """A reply of so many pieces, each made when it is read."""

    model = None
    usage = Usage(None, None)
    finish_reason = None

    def __init__(self, pieces: int, begin: str = "") -> None:
        self._left = pieces
        self._begin = begin

    at_hand = complete = True

    def rest(self) -> None:
        pass

    async def read(self) -> Event | None:
        if self._begin:
            begin, self._begin = self._begin, ""
            return begin
        self._left -= 1
        return None if self._left < 0 else "word " * (PIECE_BYTES // 5)

    def close(self) -> None:
        pass


class Account:
    def __init__(self) -> None:
        self.held = 0
        self.most = 0

    def hold(self, size: int) -> None:
        self.held += size
        self.most = max(self.most, self.held)


def emulated(reply: Text, account: Account, asked: list[str], **demanded: Any) -> EmulatedReply:
    async def ask_again(answer: str, _: str) -> Text:
        asked.append(answer)
        return Text(0, '{"name": "get_weather", "arguments": {}}')

    demand = Demand(demanded.get("toolset"), demanded.get("output"), hold=demanded.get("hold", False))
    return EmulatedReply(reply, demand, ask_again, RequestRecord(started=0), account.hold)


async def read_all(reply: EmulatedReply) -> None:
    while await reply.read() is not None:
        pass


async def test_text_that_has_gone_out_is_kept_nowhere() -> None:
    account = Account()
    reply = emulated(Text(512), account, [], toolset=Toolset((TOOL,)))
    tracemalloc.start()
    try:
        await read_all(reply)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 32 * PIECE_BYTES
    assert account.most < 4 * PIECE_BYTES
    assert account.held == 0


@pytest.mark.parametrize(
    ("begin", "demanded"),
    [
        ("", {"toolset": Toolset((TOOL,), demand="required")}),
        ("", {"toolset": Toolset((TOOL,)), "hold": True}),
        ('x {"name": "get_weather", "arguments": {"city": "', {"toolset": Toolset((TOOL,))}),
        ('{"a": "', {"output": OutputFormat()}),
    ],
)
async def test_text_that_waits_is_accounted_for(begin: str, demanded: dict[str, Any]) -> None:
    """Whatever it waits for: a call, the end, the rest of a call, the check of all of it."""

    class Stopped(Exception):
        pass

    class Endless(Text):
        async def read(self) -> Event | None:
            if not self._left:
                raise Stopped
            return await super().read()

    account = Account()
    with pytest.raises(Stopped):
        await read_all(emulated(Endless(64, begin), account, [], **demanded))
    assert account.held > 63 * PIECE_BYTES


async def test_what_the_model_is_shown_again_is_bounded_and_the_first_answer_is_let_go() -> None:
    account, asked = Account(), list[str]()
    reply = emulated(Text(64), account, asked, toolset=Toolset((TOOL,), demand="required"))
    await read_all(reply)
    assert [len(answer) for answer in asked] == [MAX_SHOWN_CHARS]
    assert account.most > 63 * PIECE_BYTES
    assert account.held == 0


async def test_what_may_be_asked_once_more_is_not_at_hand() -> None:
    reply = emulated(Text(1, "word "), Account(), [], toolset=Toolset((TOOL,), "required"))
    assert not reply.at_hand
    assert not reply.complete
    await read_all(reply)
    assert reply.complete
