"""What the tests of the roads have in common."""

from typing import Any

from sai_proxy.conversation.chat import ChatMessage, ChatRequest, Conversation, Route
from sai_proxy.conversation.events import Event
from sai_proxy.sai_api.readers import AnswerReader
from sai_proxy.sai_api.roads import make_roads

ROADS = make_roads()


def route_to(road: str, target: str, override: str | None = None) -> Route:
    route = ROADS[road].route(target, override)
    assert route is not None
    return route


def request(route: Route, *conversation: ChatMessage, **fields: Any) -> ChatRequest:
    return ChatRequest(model="m", route=route, conversations=(conversation,), **fields)


def said(*turns: tuple[str, str]) -> Conversation:
    return tuple(ChatMessage(role, (text,)) for role, text in turns)


def read(reader: AnswerReader, *pieces: bytes) -> list[Event]:
    events = [event for piece in pieces for event in reader.feed(piece)]
    events += reader.end()
    assert reader.held_bytes == 0
    return events


def text_of(events: list[Event]) -> str:
    return "".join(event for event in events if isinstance(event, str))
