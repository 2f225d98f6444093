"""Reads a model's text as it comes: what is text goes on at once, what is a tool call becomes one. Pure.

Only what may be a call is held back: from a brace, a code fence or a tag on, as long as what follows fits. A
call is given out when it is whole, never in part: agents run even what they have to mend. What is none stays
text, to the letter. Work is in proportion to the text's length, however it is cut.
"""

import re
from typing import Literal, NamedTuple

from sai_proxy.conversation.events import Event
from sai_proxy.conversation.offer import Toolset
from sai_proxy.errors import ToolCallCut
from sai_proxy.tools.calls import ARGUMENT_KEYS, NAME_KEYS, WRAPPER_KEYS, NewId, is_cut, read_calls
from sai_proxy.tools.nesting import Nesting
from sai_proxy.tools.recognition import HEAD_CHARS, TRIGGER, Recognizer

_FENCE_LINE = re.compile(r"```+[^\n`]*\n?")
_TAG_RUN = re.compile(r"(?:</?\w+>\s*)+")
_OBJECT = re.compile(r'\{\s*"')
_BRACKETS = re.compile(r"[\s\[]+")
_CLOSING = re.compile(r"[\s,\]}]*(?:</\w+>|```+)")
_CLOSING_BEGUN = re.compile(r"[\s,\]}]*(?:`{0,2}|</?\w*)")
_LAST_CLOSING = re.compile(r"(?:\n```+|</\w+>)\s*\Z")
_CALL_MARK = re.compile(rf'"(?:{"|".join((*ARGUMENT_KEYS, *WRAPPER_KEYS, *NAME_KEYS))})"\s*:')
_EXAMPLE_CHARS = 60

State = Literal["text", "fence", "object", "call"]


class Notes(NamedTuple):
    """What was noticed while reading, for log and metrics.

    forms: how each call was written. repaired: of how many the JSON was mended. misread: lengths of what
    looked like a call and was none. dropped: lengths of texts that followed calls.
    """

    forms: list[str]
    repaired: list[int]
    misread: list[int]
    dropped: list[int]


class CallReader:
    """Text in, events out. toolset: what may be called. new_id: makes a call's id."""

    def __init__(self, toolset: Toolset, new_id: NewId) -> None:
        self.notes = Notes([], [], [], [])
        self.called = 0
        self._toolset = toolset
        self._new_id = new_id
        self._recognizer = Recognizer(toolset)
        self._state: State = "text"
        self._buffer = ""
        self._at = 0
        self._more: list[str] = []
        self._texts: list[str] = []
        self._blanks: list[str] = []
        self._begun = False
        self._events: list[Event] = []
        self._before = ""
        self._nesting = Nesting()
        self._begin = 0
        self._json_end: int | None = None
        self._dropped = 0

    def feed(self, text: str) -> list[Event]:
        """What `text` makes certain."""
        if self._state == "call" and self._json_end is None:
            self._more.append(text)  # joined when it is whole, not each time
            end = self._nesting.end_in(text)
            if end is None:
                return []
            self._take_more(len(text) - end)
        else:
            self._buffer = self._buffer[max(self._at - 1, 0) :] + text
            self._at = min(self._at, 1)
        self._read(last=False)
        return self._given()

    def end(self) -> list[Event]:
        """What was held back, since no more text follows. Raises ToolCallCut for a call that has no end."""
        if self._more:
            self._buffer += "".join(self._more)
            self._more.clear()
        self._read(last=True)
        if self._dropped:
            self.notes.dropped.append(self._dropped)
        return self._given(last=not self.called)

    def _take_more(self, behind: int) -> None:
        """The JSON of a candidate is whole; so many characters stand behind it."""
        self._buffer += "".join(self._more)
        self._more.clear()
        self._json_end = len(self._buffer) - behind

    def _given(self, *, last: bool = False) -> list[Event]:
        self._given_text(last=last)
        events, self._events = self._events, []
        return events

    def _given_text(self, *, last: bool = False) -> None:
        """Blanks before anything else wait: before a call they are no text."""
        text = "".join(self._texts)
        self._texts = []
        if not self._begun:
            if text:
                self._blanks.append(text)
            if not last and not text.strip():
                return
            self._begun = True
            text = "".join(self._blanks)
            self._blanks = []
        if text:
            self._events.append(text)

    def _read(self, *, last: bool) -> None:
        going = True
        while going and self._at < len(self._buffer):
            match self._state:
                case "text":
                    going = self._search(last=last)
                case "fence":
                    going = self._pass_fence(last=last)
                case "object":
                    going = self._pass_object()
                case "call":
                    going = self._read_call(last=last)

    def _give(self, end: int) -> None:
        """The buffer up to `end` is text."""
        text = self._buffer[self._at : end]
        self._at = end
        if not text:
            return
        self._before = (self._before + text[-_EXAMPLE_CHARS:])[-_EXAMPLE_CHARS:]
        if self.called:  # an invented result, or a remark for nobody: it is the client's turn
            self._dropped += len(text.strip("`}]> \t\r\n"))
        else:
            self._texts.append(text)

    def _search(self, *, last: bool) -> bool:
        """Text up to where a call may begin."""
        match = TRIGGER.search(self._buffer, self._at)
        if match is None:
            self._give(len(self._buffer))
            return False
        self._give(match.start())
        head = self._buffer[self._at : self._at + HEAD_CHARS]
        verdict, begin = self._recognizer.judge(head, self._before)
        if verdict == "more" and not last and len(head) < HEAD_CHARS:
            return False
        if verdict == "yes":
            self._begin_call(self._at + begin)
        else:
            self._decline()
        return True

    def _decline(self) -> None:
        """No call begins here: pass over what belongs together, so that nothing inside is taken for one."""
        if self._buffer.startswith("```", self._at):
            line = _FENCE_LINE.match(self._buffer, self._at)
            assert line is not None
            self._state = "fence"
            self._give(line.end())
        elif _OBJECT.match(self._buffer, self._at, self._at + HEAD_CHARS):
            self._state, self._nesting = "object", Nesting()
        elif run := _TAG_RUN.match(self._buffer, self._at) or _BRACKETS.match(self._buffer, self._at):
            self._give(run.end())
        else:
            self._give(self._at + 1)

    def _pass_fence(self, *, last: bool) -> bool:
        """Text of a code fence that holds no call."""
        at = self._buffer.find("```", self._at)
        if at < 0:
            ticks = 0 if last else len(self._buffer) - len(self._buffer.rstrip("`"))
            self._give(max(len(self._buffer) - ticks, self._at))
            return False
        self._give(at + 3)
        self._state = "text"
        return True

    def _pass_object(self) -> bool:
        """Text of an object that is no call, with what is nested in it. It may be no JSON at all, and have no
        end: a blank line is one, too."""
        blank = 0 if self._before.endswith("\n") and self._buffer[self._at] == "\n" else None
        if blank is None and (found := self._buffer.find("\n\n", self._at)) >= 0:
            blank = found - self._at + 1
        end = self._nesting.end_in(self._buffer, self._at)
        if blank is not None and (end is None or self._at + blank < end):
            end = self._at + blank
        self._give(len(self._buffer) if end is None else end)
        if end is not None:
            self._state = "text"
        return end is not None

    def _begin_call(self, begin: int) -> None:
        self._state, self._begin, self._nesting = "call", begin, Nesting()
        self._json_end = self._nesting.end_in(self._buffer, begin)

    def _read_call(self, *, last: bool) -> bool:
        """What may be a call, if all of it is here."""
        whole = self._json_end is not None
        end, json_end = self._ends()
        if end is None and not last:
            return False
        end = len(self._buffer) if end is None else end
        self._state = "text"
        closed = json_end < len(self._buffer)
        text = self._buffer[self._begin : json_end]
        reading = read_calls(text, self._toolset, self._new_id, closed=closed)
        if reading is None:
            if not whole and _CALL_MARK.search(self._buffer, self._begin) and is_cut(text, closed=closed):
                raise ToolCallCut(detail="SAI's answer ended in the middle of a tool call")
            self.notes.misread.append(end - self._at)
            self._give(end)
            return True
        self._note(reading.form, len(reading.calls) if reading.repaired else 0)
        calls = reading.calls if self._toolset.parallel else reading.calls[: max(1 - self.called, 0)]
        self._given_text()
        for call in calls:
            self._events += call.events()
        self.called += len(calls)
        self._at = end
        return True

    def _ends(self) -> tuple[int | None, int]:
        """The end of what may be a call with its fence or tag, None if that may still come, and of its JSON."""
        buffer, json_end = self._buffer, self._json_end
        if json_end is None:  # broken, or cut
            closing = _LAST_CLOSING.search(buffer, self._begin)
            return None, len(buffer) if closing is None else closing.start()
        if self._begin == self._at or buffer[self._at] not in "`<":
            return json_end, json_end
        limit = json_end + HEAD_CHARS  # else blanks without end would be looked at again with each piece
        if closing := _CLOSING.match(buffer, json_end, limit):
            return closing.end(), json_end
        may_come = len(buffer) < limit and _CLOSING_BEGUN.fullmatch(buffer, json_end)
        return (None if may_come else json_end), json_end

    def _note(self, form: str, repaired: int) -> None:
        self.notes.forms.append(form)
        if repaired:
            self.notes.repaired.append(repaired)
