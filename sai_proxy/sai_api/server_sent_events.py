"""Server-sent events from bytes of any size. Pure.

Source: WHATWG HTML, 9.2: lines end in CR LF, LF or CR; a blank line ends an event; a line that begins with a colon is
a comment; one blank after a field's colon is no part of its value.
"""

import codecs
import re
from typing import NamedTuple

_LINE_END = re.compile(r"\r\n|\n|\r")


class ServerSentEvent(NamedTuple):
    name: str
    data: str


class EventParser:
    """One stream. held_chars: how much of it waits for the end of its event."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")(errors="replace")
        self._tail: list[str] = []
        self._name = ""
        self._data: list[str] = []
        self._data_chars = 0
        self.held_chars = 0

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """The events that `data` completes."""
        return self._take(self._decoder.decode(data), final=False)

    def end(self) -> list[ServerSentEvent]:
        """The last event, even if no blank line follows it."""
        events = self._take(self._decoder.decode(b"", final=True), final=True)
        if self._data:
            events += self._line("")
        return events

    def _take(self, text: str, *, final: bool) -> list[ServerSentEvent]:
        self.held_chars += len(text)
        if not final and not _LINE_END.search(text) and not self._ends_in_cr():
            if text:
                self._tail.append(text)  # joined once, when the line is whole
            return []
        text = "".join([*self._tail, text])
        self._tail = []
        held_cr = not final and text.endswith("\r")  # half of a CR LF, perhaps
        lines = _LINE_END.split(text[:-1] if held_cr else text)
        last = lines.pop()
        events = [event for line in lines for event in self._line(line)]
        rest = last + "\r" if held_cr else last
        if final:
            return [*events, *(self._line(rest) if rest else [])]
        if rest:
            self._tail.append(rest)
        self.held_chars = len(rest) + self._data_chars
        return events

    def _ends_in_cr(self) -> bool:
        return bool(self._tail) and self._tail[-1].endswith("\r")

    def _line(self, line: str) -> list[ServerSentEvent]:
        if not line:
            event = ServerSentEvent(self._name or "message", "\n".join(self._data))
            complete = bool(self._data)
            self._name, self._data, self._data_chars = "", [], 0
            return [event] if complete else []
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            self._name = value
        elif field == "data":
            self._data.append(value)
            self._data_chars += len(value) + 1
        return []
