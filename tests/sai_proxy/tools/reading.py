"""Reading a text with tools offered, in pieces of any size."""

from collections.abc import Iterable

from sai_proxy.conversation.events import CallArguments, CallBegin, CallEnd, Event
from sai_proxy.conversation.offer import Tool, Toolset
from sai_proxy.tools.reading import CallReader, Notes

WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
FILE = {
    "type": "object",
    "properties": {"path": {"type": "string"}, "content": {"type": "string"}},
    "required": ["path", "content"],
}
COMMAND = {"type": "object", "properties": {"cmd": {"type": "string"}}, "required": ["cmd"]}
TOOLSET = Toolset(
    (
        Tool("get_weather", "", WEATHER),
        Tool("write_file", "", FILE),
        Tool("exec_command", "", COMMAND),
        Tool("Exit", "", {"type": "object", "properties": {}}),
        Tool("apply_patch", kind="custom"),
    )
)

Call = tuple[str, str]


class Read:
    """What was read: text as it came, calls as (name, arguments), and the notes."""

    def __init__(self, events: Iterable[Event], notes: Notes) -> None:
        self.pieces = [event for event in events if isinstance(event, str)]
        self.calls: list[Call] = []
        self.notes = notes
        name = arguments = ""
        for event in events:
            match event:
                case CallBegin():
                    name, arguments = event.name, ""
                case CallArguments():
                    arguments += event.text
                case CallEnd():
                    self.calls.append((name, arguments))

    @property
    def text(self) -> str:
        return "".join(self.pieces)


def read(text: str, size: int | None = None, toolset: Toolset = TOOLSET) -> Read:
    """`text` in pieces of `size` characters, or as one. Raises ToolCallCut."""
    return read_pieces([text] if size is None else [text[at : at + size] for at in range(0, len(text), size)], toolset)


def read_pieces(pieces: Iterable[str], toolset: Toolset = TOOLSET) -> Read:
    """The same, of any pieces."""
    ids = iter(range(10_000))
    reader = CallReader(toolset, lambda: f"call_{next(ids)}")
    events: list[Event] = []
    for piece in pieces:
        events += reader.feed(piece)
    events += reader.end()
    return Read(events, reader.notes)
