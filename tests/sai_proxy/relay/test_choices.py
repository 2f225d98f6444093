from typing import Any

import pytest

from sai_proxy.conversation.chat import Usage
from sai_proxy.conversation.events import Event
from sai_proxy.conversation.stop_sequences import TextEnd
from sai_proxy.relay.choices import Choice


class Arrived:
    """A reply of which some events are there, and the rest only if it is complete."""

    model = finish_reason = None
    usage = Usage(None, None)

    def __init__(self, *events: Event, complete: bool) -> None:
        self._events = list(events)
        self.complete = complete

    @property
    def at_hand(self) -> bool:
        return bool(self._events) or self.complete

    def rest(self) -> list[Event] | None:
        return None

    async def read(self) -> Event | None:
        if not self._events and not self.complete:
            raise AssertionError("it would wait here")
        return self._events.pop(0) if self._events else None

    def close(self) -> None:
        pass


async def read_what_is_at_hand(choices: Choice) -> list[Event]:
    found: list[Event] = []
    while choices.at_hand:
        _, event = await choices.read()
        if event is None:
            break
        found.append(event)
    return found


@pytest.mark.parametrize(
    ("text_end", "found"),
    [(None, ["Hello ", "wor"]), (TextEnd(("world",)), []), (TextEnd((), 100), [])],
    ids=["as it is", "stop sequence", "limit"],
)
async def test_nothing_is_at_hand_that_may_be_held_back(text_end: TextEnd | None, found: list[Any]) -> None:
    """A stream writes what it has before it waits: `Hello ` must not stay while `wor` may begin a stop sequence."""
    choices = Choice(0, Arrived("Hello ", "wor", complete=False), text_end, 1)
    assert await read_what_is_at_hand(choices) == found


async def test_all_of_a_complete_answer_is_at_hand() -> None:
    choices = Choice(0, Arrived("Hello ", "wor", complete=True), TextEnd(("world",)), 1)
    assert await read_what_is_at_hand(choices) == ["Hello ", "wor"]
    assert choices.finish_reason(0) == "stop"
