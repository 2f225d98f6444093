"""Tools and JSON over a reply that is only text: a reply of events, which asks once more where the model has
not done what was demanded and nothing has gone out yet.

What reads, checks and words is pure and stands in `tools`; here is only the waiting.
"""

import logging
import sys
from collections import deque
from collections.abc import Awaitable, Callable

from sai_proxy import errors
from sai_proxy.conversation.chat import ChatRequest, Usage
from sai_proxy.conversation.events import CallArguments, CallBegin, CallEnd, Event
from sai_proxy.conversation.offer import OutputFormat, Toolset
from sai_proxy.errors.wording import second_ask_facts
from sai_proxy.http.ids import random_hex
from sai_proxy.sai_api.upstream import Reply
from sai_proxy.telemetry.record import RequestRecord
from sai_proxy.tools.asking import ask_again_for_call, ask_again_for_json, ask_again_for_known_tool
from sai_proxy.tools.json_output import JsonReader
from sai_proxy.tools.reading import CallReader
from sai_proxy.tools.validation import Validator, json_problem

logger = logging.getLogger(__name__)

MAX_SHOWN_CHARS = 32 * 1024
"""Of an answer that the model is shown again when it is asked once more."""

AskAgain = Callable[[str, str], Awaitable[Reply]]
"""Asks the same conversation with the model's answer and what is demanded instead."""

Hold = Callable[[int], None]
"""Accounts for so many bytes more, or fewer. Raises ServerBusy."""


def new_call_id() -> str:
    """An id for a tool call, as OpenAI's look."""
    return f"call_{random_hex(24)}"


class Demand:
    """What one request wants of the model beside text. hold: whether nothing goes out before the end, so
    that there is always a second try. native: whether the road makes calls itself, so that none is in its text."""

    def __init__(
        self, toolset: Toolset | None, output: OutputFormat | None, *, hold: bool, native: bool = False
    ) -> None:
        self.toolset = toolset
        self.native = native
        self.output = output
        self.hold = hold
        self.call_required = toolset is not None and toolset.demand == "required"
        tools = toolset.offered if toolset is not None else ()
        self.strict = {tool.name: Validator(tool.parameters) for tool in tools if tool.strict and tool.parameters}
        self.schema = Validator(output.schema) if output is not None and output.schema is not None else None


def demand_of(chat: ChatRequest) -> Demand | None:
    """What has to be read out of the text, or checked, of a road that does not do so itself; None for nothing."""
    native = chat.route.can.tools == "native"
    if chat.toolset is None and chat.output is None and not native:
        return None
    return Demand(chat.toolset, chat.output, hold=not chat.stream, native=native)


class EmulatedReply:
    """A reply of text, or of a road's own events, read as what is demanded. hold: told of all text that has come and
    not gone out."""

    def __init__(self, reply: Reply, demand: Demand, ask_again: AskAgain, record: RequestRecord, hold: Hold) -> None:
        self._reply = reply
        self._demand = demand
        self._ask_again = ask_again
        self._record = record
        self._hold = hold
        self._kept_bytes = 0
        self._earlier = Usage(0, 0)
        self._ready: deque[Event] = deque()
        self._ended = False
        self._to_demand: str | None = None
        self._asked_again = False
        self._begin()

    def _begin(self) -> None:
        demand = self._demand
        toolset = None if demand.native else demand.toolset
        self._calls = CallReader(toolset, new_call_id) if toolset is not None else None
        self._native_calls: set[str] = set()
        self._misread_natively = False
        self._passing = True
        self._json = JsonReader() if demand.output is not None else None
        self._said = ""
        self._held: list[Event] = []
        self._out = False

    @property
    def model(self) -> str | None:
        return self._reply.model

    @property
    def finish_reason(self) -> str | None:
        """What SAI says of its text; whether that was a call is seen by its events."""
        told = self._reply.finish_reason
        return None if self._called else told

    @property
    def usage(self) -> Usage:
        """Of all that was asked."""
        usage, earlier = self._reply.usage, self._earlier
        return Usage(
            _sum(usage.prompt_tokens, earlier.prompt_tokens), _sum(usage.completion_tokens, earlier.completion_tokens)
        )

    @property
    def at_hand(self) -> bool:
        return bool(self._ready or self._ended) or self.complete

    @property
    def complete(self) -> bool:
        """As long as nothing has gone out, it may turn out that more is asked."""
        return self._ended or (self._out and self._reply.complete)

    def rest(self) -> None:
        """It has to be read: whether more is asked turns out on the way."""

    async def read(self) -> Event | None:
        while not self._ready and not self._ended:
            if self._to_demand is not None:
                await self._replace(self._to_demand)
            piece = await self._reply.read()
            if piece is None:
                self._end()
            elif isinstance(piece, str):
                self._keep(piece)
                self._take(self._calls.feed(piece) if self._calls is not None else [piece])
            else:
                self._take(self._checked(piece))
        event = self._ready.popleft() if self._ready else None
        checked_at_the_end = self._json is not None and not self._ended
        if not (self._ready or checked_at_the_end):
            self._let_go()
        return event

    def close(self) -> None:
        self._reply.close()

    def _keep(self, piece: str) -> None:
        size = sys.getsizeof(piece)
        self._hold(size)
        self._kept_bytes += size
        if not self._out and len(self._said) < MAX_SHOWN_CHARS:
            self._said += piece[: MAX_SHOWN_CHARS - len(self._said)]

    def _let_go(self) -> None:
        self._hold(-self._kept_bytes)
        self._kept_bytes = 0

    async def _replace(self, demand: str) -> None:
        """Ask once more, and go on with that reply. demand: in words for the model."""
        self._to_demand = None
        reply = await self._ask_again(self._said, demand)
        self._earlier = self._reply.usage
        self._reply.close()
        self._reply = reply
        self._let_go()
        self._begin()

    def _checked(self, event: CallBegin | CallArguments | CallEnd) -> list[Event]:
        """A step of a call that the road has made: none of a tool that is not offered, or of one call too many. Its
        id is unlike any other of the answer."""
        if isinstance(event, CallBegin):
            toolset = self._demand.toolset
            known = toolset is not None and toolset.tool(event.name) is not None
            self._passing = known and (not self._native_calls or (toolset is not None and toolset.parallel))
            if not known:
                self._misread_natively = True
                self._record.call_misreadings += 1
                logger.info("a call of a tool that is not offered was left out")
            if not self._passing:
                return []
            name = new_call_id() if event.id in ("", *self._native_calls) else event.id
            self._native_calls.add(name)
            self._record.call_forms = _counted(self._record.call_forms, "native")
            event = CallBegin(name, event.name, event.kind)
        return [event] if self._passing else []

    def _take(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, str):
                if self._json is not None:
                    event = self._json.feed(event)
                if not event:
                    continue
            self._held.append(event)
        if not self._must_wait():
            self._release()

    def _must_wait(self) -> bool:
        demand = self._demand
        if demand.hold or demand.strict or (demand.call_required and not self._called):
            return True
        return self._misread and not self._out and not self._asked_again

    @property
    def _misread(self) -> bool:
        """Whether something like a call came that is none, and no call."""
        if self._called or self._demand.toolset is None:
            return False
        return self._misread_natively or (self._calls is not None and bool(self._calls.notes.misread))

    @property
    def _called(self) -> int:
        return len(self._native_calls) + (self._calls.called if self._calls is not None else 0)

    def _release(self) -> None:
        self._ready.extend(self._held)
        self._out = self._out or bool(self._held)
        self._held = []

    def _end(self) -> None:
        if self._calls is not None:
            self._take(self._calls.end())
            self._note(self._calls)
        failure = self._failure()
        if failure is None:
            self._release()
            self._ended = True
            return
        final, demand = failure
        if self._out or self._asked_again:
            if final is None:
                self._release()
                self._ended = True
                return
            raise final
        self._asked_again = True
        self._record.second_asks += 1
        logger.info("asking the model once more", extra={"reason": type(final).__name__ if final else "misread"})
        self._to_demand = demand

    def _failure(self) -> tuple[errors.ProxyError | None, str] | None:
        """What the answer lacks: as an error, unless it may go out as it is, and as words for the model."""
        demand, twice = self._demand, second_ask_facts(asked_again=self._asked_again)
        if demand.call_required and not self._called:
            assert demand.toolset is not None
            wanted = ", ".join(tool.name for tool in demand.toolset.offered[:5])
            words = ask_again_for_call(demand.toolset, native=demand.native)
            return errors.ToolChoiceDisobeyed({"wanted": wanted, **twice}), words
        if self._misread and demand.toolset is not None and demand.output is None:
            return None, ask_again_for_known_tool(demand.toolset)
        problem = self._problem_of_calls() or self._problem_of_json()
        if problem is None:
            return None
        return errors.OutputMismatch({"problem": problem, **twice}, detail=problem), ask_again_for_json(problem)

    def _problem_of_calls(self) -> str | None:
        """Of arguments that have to fit their schema."""
        name = ""
        for event in self._held:
            if isinstance(event, CallBegin):
                name = event.name
            elif isinstance(event, CallArguments) and name in self._demand.strict:
                problem = self._demand.strict[name].problem(event.text)
                if problem is not None:
                    return f"arguments of {name}: {problem}"
        return None

    def _problem_of_json(self) -> str | None:
        if self._json is None or self._demand.output is None or self._called:
            return None
        if self._reply.finish_reason is not None:
            return None  # SAI says that there would have been more: so does the answer, and another would be as long
        text = self._json.text
        problem = json_problem(text)
        tolerant = not self._demand.output.strict and (self._asked_again or self._out)
        if problem is None and self._demand.schema is not None and not tolerant:
            problem = self._demand.schema.problem(text)
        return problem

    def _note(self, calls: CallReader) -> None:
        record, notes = self._record, calls.notes
        for form in notes.forms:
            record.call_forms = _counted(record.call_forms, form)
        record.call_repairs += sum(notes.repaired)
        record.call_misreadings += len(notes.misread)
        if notes.dropped:
            logger.info("text after tool calls was cut", extra={"chars": sum(notes.dropped)})
        if notes.misread:
            logger.info("what looked like a tool call was none", extra={"chars": sum(notes.misread)})


def _counted(forms: dict[str, int] | None, form: str) -> dict[str, int]:
    return {**(forms or {}), form: (forms or {}).get(form, 0) + 1}


def _sum(first: int | None, second: int | None) -> int | None:
    return None if first is None or second is None else first + second
