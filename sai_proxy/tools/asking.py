"""How tools and JSON are asked of a model that only writes text. Pure.

Instructions follow the user's own system text, so that they win over it; calls in the history stand in the
form that is asked for, and results as a user's text, which is what did best with a real model: see docs/tools.md.
"""

import json
from collections.abc import Iterable

from sai_proxy.conversation.abilities import ToolAbility
from sai_proxy.conversation.chat import ChatMessage, Conversation
from sai_proxy.conversation.events import ToolCall
from sai_proxy.conversation.offer import OutputFormat, Toolset
from sai_proxy.tools.signatures import compact, example_of, signature

_ASKED = """You have these tools:

%(tools)s

When a tool can give or do what is asked, do not answer yourself but call it, with one JSON object of this form and \
nothing else:
%(form)s
%(what)s Arguments are JSON: escape quotes and line breaks inside strings.%(custom)s
%(rules)s"""

_RULES = "When no tool is needed, answer in plain text. Results of calls are sent to you; never invent them."
_REQUIRED = "You must call %s now: your whole answer is that JSON object."
_CUSTOM = ' Of a tool that takes free text, the arguments are one string: "arguments":"TEXT".'
_AFTER_RESULT = "Now answer the question with this result in plain text, or call the next tool if more is needed."

_JSON = "Answer with one JSON %(what)s and nothing else: no explanation and no code fence.%(schema)s"


def ask_for_tools(toolset: Toolset) -> str:
    """The instructions for calling."""
    kept: dict[str, str] = vars(toolset)
    if "asked" not in kept:
        kept["asked"] = _asked(toolset)
    return kept["asked"]


def _asked(toolset: Toolset) -> str:
    names = [tool.name for tool in toolset.offered]
    rules = _REQUIRED % _one_of(names) if toolset.demand == "required" else _RULES
    return _ASKED % {
        "form": call_form(toolset),
        "tools": "\n".join(f"- {signature(tool)}" for tool in toolset.offered),
        "what": "For several calls, put several entries into the list." if toolset.parallel else "One call at a time.",
        "custom": _CUSTOM if any(tool.kind == "custom" for tool in toolset.offered) else "",
        "rules": rules,
    }


def call_form(toolset: Toolset) -> str:
    """The form that is asked for, shown by a call of the first tool; `calls` reads others, too. Placeholders would do
    for large models, but small ones copy them."""
    tool = toolset.offered[0]
    arguments = "..." if tool.kind == "custom" else example_of(tool.parameters or {})
    return '{"tool_calls":[' + json.dumps({"name": tool.name, "arguments": arguments}, separators=(",", ":")) + "]}"


def ask_for_json(output: OutputFormat, *, with_tools: bool) -> str:
    """The instructions for an answer in JSON."""
    schema = f"\nIt has to fit this JSON Schema:\n{compact(output.schema)}" if output.schema is not None else ""
    asked = _JSON % {"what": "object" if output.schema is None else "value", "schema": schema}
    return f"When you do not call a tool: {asked[0].lower()}{asked[1:]}" if with_tools else asked


def ask_again_for_call(toolset: Toolset, *, native: bool = False) -> str:
    """What to say when a call was demanded and none came. native: to a model that makes calls itself."""
    one = _one_of([tool.name for tool in toolset.offered])
    if native:
        return f"That was no tool call. You must call {one} now."
    return f"That was no tool call. {_REQUIRED % one} Its form is:\n{call_form(toolset)}"


def ask_again_for_known_tool(toolset: Toolset) -> str:
    """What to say when something like a call came that is none: of a tool that is not offered, or unreadable."""
    names = ", ".join(tool.name for tool in toolset.offered)
    return (
        "That calls no tool that there is, or cannot be read as a call. Answer in plain text, without JSON, "
        f"unless one of these is really needed: {names}."
    )


def ask_again_for_json(problem: str) -> str:
    """What to say when JSON was demanded and something else came. problem: the validator's words."""
    return f"That is not the JSON that was asked for: {problem}. Answer with the corrected JSON alone."


def as_text(
    conversation: Conversation, toolset: Toolset | None, output: OutputFormat | None, by: ToolAbility
) -> Conversation:
    """The conversation with all that concerns tools and JSON as text that a model follows, as far as it has to be.
    by: what the road can; one with tools of its own gets calls and results as they are."""
    asked = []
    if toolset is not None and by == "emulated":
        asked.append(ask_for_tools(toolset))
    if output is not None:
        asked.append(ask_for_json(output, with_tools=toolset is not None))
    native = by == "native"
    if not asked and (native or not _has_calls(conversation)):
        return conversation
    told = conversation
    if not native:
        nudged = len(conversation) - 1 if toolset is not None and by == "emulated" else None
        told = tuple(_told(message, nudge=index == nudged) for index, message in enumerate(conversation))
    if not asked:
        return told
    leading = next((i for i, message in enumerate(told) if message.role != "system"), len(told))
    return (*told[:leading], ChatMessage("system", ("\n\n".join(asked),)), *told[leading:])


def _has_calls(conversation: Conversation) -> bool:
    for message in conversation:  # noqa: SIM110 (a generator would cost more than all else here)
        if message.calls or message.answers:
            return True
    return False


def with_another_try(conversation: Conversation, answer: str, demand: str) -> Conversation:
    """The conversation, what the model answered, and what is demanded instead."""
    return (*conversation, ChatMessage("assistant", (answer,)), ChatMessage("user", (demand,)))


def _told(message: ChatMessage, *, nudge: bool) -> ChatMessage:
    if message.answers is not None:
        text = f"Result of {message.answers.name} ({message.answers.id}):\n{message.text}"
        told = f"{text}\n\n{_AFTER_RESULT}" if nudge else text
        return ChatMessage("user", (told,), answers=message.answers)
    if message.calls:
        parts = tuple(part for part in message.parts if part)
        return ChatMessage(message.role, (*parts, calls_as_text(message.calls)))
    return message


def calls_as_text(calls: Iterable[ToolCall]) -> str:
    """Calls in the form that is asked for."""
    return '{"tool_calls":[' + ",".join(map(_call_as_text, calls)) + "]}"


def _call_as_text(call: ToolCall) -> str:
    arguments = json.dumps(call.arguments, ensure_ascii=False) if call.kind == "custom" else _object(call.arguments)
    return f'{{"name":{json.dumps(call.name, ensure_ascii=False)},"arguments":{arguments}}}'


def _object(arguments: str) -> str:
    """Arguments as they stand if they are JSON, else as a string: a model sees what it wrote."""
    try:
        json.loads(arguments)
    except (ValueError, RecursionError):
        return json.dumps(arguments, ensure_ascii=False)
    return arguments.strip()


def _one_of(names: list[str]) -> str:
    return f"`{names[0]}`" if len(names) == 1 else "one of the tools"
