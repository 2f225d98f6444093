"""Input items of `POST /v1/responses`, and their way into the conversation that is asked of SAI.

Source: OpenAI's API reference, and what its clients were seen to send. A message needs no `type`. Items come one
by one: an assistant's text and its calls, which follow it, are one turn here.
"""

from typing import Literal, NamedTuple

import msgspec
from msgspec import Raw, Struct, field

from sai_proxy.conversation.chat import ChatMessage, Conversation, Image
from sai_proxy.conversation.events import CallKind, ToolCall
from sai_proxy.errors import (
    ArrayTooLong,
    InvalidType,
    InvalidValue,
    ItemNotKept,
    MissingParameter,
    UnsupportedValue,
)
from sai_proxy.openai_api.content import ContentRules, check_images
from sai_proxy.openai_api.decoding import decode_field
from sai_proxy.openai_api.kept_responses import MAX_OBJECTS, ItemIndex, Recalled
from sai_proxy.openai_api.messages import MAX_MESSAGES
from sai_proxy.openai_api.raw import Anything, absent, is_given, kind_of
from sai_proxy.openai_api.response_tools import ToolNames

NOT_SHOWN = "[%s not shown: this model reads text only]"
"""In place of an image in a tool's output. A refusal would end an agent's conversation for good, since the item
stays in its history."""

SHOWN_BELOW = "[image: see the next message of the user]"
SHOWN = "The images that the tools have given:"
"""Where a model reads images, those of tools come in a message of their own: a tool's result is text alone."""

TEXT_PARTS = ("input_text", "output_text", "text", "summary_text", "reasoning_text")
OTHER_PARTS = ("input_image", "input_file", "input_audio", "computer_screenshot", "image_url", "file")

SILENT_ITEMS = frozenset(
    {
        "reasoning",
        "compaction",
        "context_compaction",
        "compaction_trigger",
        "additional_tools",
        "configuration_update",
        "web_search_call",
        "file_search_call",
        "image_generation_call",
        "code_interpreter_call",
        "computer_call",
        "computer_call_output",
        "tool_search_call",
        "tool_search_output",
        "mcp_list_tools",
        "mcp_approval_request",
        "mcp_approval_response",
    }
)
"""Items that another server has made, or that a client keeps for itself: nothing in them is for a model to read."""

READ_ITEMS = (
    "message",
    "agent_message",
    "function_call",
    "function_call_output",
    "custom_tool_call",
    "custom_tool_call_output",
    "local_shell_call",
    "local_shell_call_output",
    "item_reference",
)


class Part(Struct):
    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: Anything = field(default_factory=absent)
    detail: str | None = None


class ItemKind(Struct):
    type: str | None = None
    role: str | None = None
    id: str | None = None


class MessageItem(Struct):
    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[Part]


class AgentMessageItem(Struct):
    content: str | list[Part] = ""


class FunctionCallItem(Struct):
    call_id: str
    name: str
    arguments: str
    namespace: str | None = None


class CustomCallItem(Struct):
    call_id: str
    name: str
    input: str
    namespace: str | None = None


class ShellCallItem(Struct):
    call_id: str
    action: Anything
    id: str | None = None


class OutputItem(Struct):
    call_id: str
    output: str | list[Part]


class ShellOutputItem(Struct):
    """id: of its call, in OpenAI's reference, where its own examples say `call_id`."""

    output: str | list[Part]
    id: str | None = None
    call_id: str | None = None


class ReferenceItem(Struct):
    id: str


class PlacedItem(NamedTuple):
    """An item, and where it stands in the request."""

    path: str
    item: Raw


_items_decoder = msgspec.json.Decoder(list[Raw])
_kinds_decoder = msgspec.json.Decoder(list[ItemKind])
_kind_decoder = msgspec.json.Decoder(ItemKind)
_text_decoder = msgspec.json.Decoder(str)
_message_decoder = msgspec.json.Decoder(MessageItem)
_said_decoder = msgspec.json.Decoder(AgentMessageItem)
_call_decoder = msgspec.json.Decoder(FunctionCallItem)
_custom_decoder = msgspec.json.Decoder(CustomCallItem)
_shell_decoder = msgspec.json.Decoder(ShellCallItem)
_shell_output_decoder = msgspec.json.Decoder(ShellOutputItem)
_output_decoder = msgspec.json.Decoder(OutputItem)
_reference_decoder = msgspec.json.Decoder(ReferenceItem)


def place_items(raw: Raw, recalled: Recalled) -> list[PlacedItem]:
    """The items of `input`, references replaced by what they refer to. Raises InvalidRequest."""
    if kind_of(raw) not in ("string", "array"):
        raise InvalidType({"expected": "string | array", "found": kind_of(raw)}, param="input")
    if kind_of(raw) == "string":
        message = {"role": "user", "content": decode_field(raw, _text_decoder, "input")}
        return [PlacedItem("input", Raw(msgspec.json.encode(message)))]
    if len(raw) > MAX_OBJECTS and bytes(raw).count(b"{") > MAX_OBJECTS:  # decoded, they take many times their bytes
        raise ArrayTooLong({"limit": MAX_MESSAGES}, param="input")
    kinds = decode_field(raw, _kinds_decoder, "input")  # first, as what is no object ends it at once
    if len(kinds) > MAX_MESSAGES:
        raise ArrayTooLong({"limit": MAX_MESSAGES}, param="input")
    items, index = decode_field(raw, _items_decoder, "input"), ItemIndex(recalled)
    placed: list[PlacedItem] = []
    for number, (kind, item) in enumerate(zip(kinds, items, strict=True)):
        path = f"input[{number}]"
        placed.append(PlacedItem(path, _referred(item, path, index) if kind.type == "item_reference" else item))
    return placed


def _referred(item: Raw, path: str, index: ItemIndex) -> Raw:
    name = decode_field(item, _reference_decoder, path).id
    found = index.item(name, path)
    if found is None:
        raise ItemNotKept({"id": name[:100]}, param=path)
    return found


def read_items(items: list[PlacedItem], names: ToolNames, rules: ContentRules) -> Conversation:
    """The conversation in `items`. Raises InvalidRequest for what the model cannot read, and for outputs that
    answer no call."""
    reading = _Reading(names, rules)
    for path, item in items:
        reading.add(path, item)
    reading.end_turn()
    reading.end_outputs()
    check_images(reading.messages, "input")
    return tuple(reading.messages)


class _Reading:
    """A conversation while its items are read."""

    def __init__(self, names: ToolNames, rules: ContentRules) -> None:
        self.messages: list[ChatMessage] = []
        self._names = names
        self._rules = rules
        self._shown: list[Image] = []
        self._made: dict[str, ToolCall] = {}
        self._said: tuple[str, ...] = ()
        self._calls: list[ToolCall] = []

    def add(self, path: str, item: Raw) -> None:
        kind = decode_field(item, _kind_decoder, path)
        match kind.type or ("message" if kind.role else None):
            case "message":
                self._message(path, item)
            case "function_call":
                call = decode_field(item, _call_decoder, path)
                self._call(call.call_id, self._names.known(call.namespace, call.name), call.arguments, "function")
            case "custom_tool_call":
                custom = decode_field(item, _custom_decoder, path)
                self._call(custom.call_id, self._names.known(custom.namespace, custom.name), custom.input, "custom")
            case "local_shell_call":
                shell = decode_field(item, _shell_decoder, path)
                self._call(shell.call_id, "local_shell", bytes(shell.action).decode(), "function")
                if shell.id:
                    self._made[shell.id] = self._made[shell.call_id]
            case "function_call_output" | "custom_tool_call_output":
                self._output(path, decode_field(item, _output_decoder, path))
            case "local_shell_call_output":
                given = decode_field(item, _shell_output_decoder, path)
                answered = given.call_id or given.id
                if not answered:
                    raise MissingParameter(param=f"{path}.call_id")
                self._output(path, OutputItem(answered, given.output))
            case "agent_message":
                self._agent_message(item)
            case None:
                raise MissingParameter(param=f"{path}.type")
            case other if other not in SILENT_ITEMS:
                raise UnsupportedValue({"allowed": ", ".join(READ_ITEMS)}, param=f"{path}.type")

    def end_turn(self) -> None:
        """What the assistant has said and called so far is one message."""
        if self._said or self._calls:
            self.messages.append(ChatMessage("assistant", self._said or ("",), tuple(self._calls)))
            self._said, self._calls = (), []

    def end_outputs(self) -> None:
        """Pictures that tools have shown follow all of their outputs."""
        if self._shown:
            self.messages.append(ChatMessage("user", (SHOWN,), images=tuple(self._shown)))
            self._shown = []

    def _message(self, path: str, item: Raw) -> None:
        self.end_turn()
        self.end_outputs()
        message = decode_field(item, _message_decoder, path)
        if message.role == "user" and isinstance(message.content, list):
            self._user_message(message.content, path)
            return
        parts = _parts(message.content, path, self._rules)
        if message.role == "assistant":
            self._said = parts or ("",)
        elif parts:
            self.messages.append(ChatMessage("user" if message.role == "user" else "system", parts))

    def _user_message(self, content: list[Part], path: str) -> None:
        texts: list[str] = []
        images: list[Image] = []
        for index, part in enumerate(content):
            place = f"{path}.content[{index}]"
            if part.type == "input_image" and is_given(part.image_url):
                place = f"{place}.image_url"
                images.append(self._rules.image(part.image_url, part.detail, len(texts), part.type, place))
            else:
                texts.append(_text(part, place, self._rules))
        if texts or images:
            self.messages.append(ChatMessage("user", tuple(texts), images=tuple(images)))

    def _agent_message(self, item: Raw) -> None:
        """What another agent of the client's has said; its shape is not documented, so no other is refused."""
        try:
            content = _said_decoder.decode(item).content
        except msgspec.ValidationError:
            return
        text = "\n".join(map(_shown, content)) if isinstance(content, list) else content
        if text:
            self.end_turn()
            self.end_outputs()
            self.messages.append(ChatMessage("user", (text,)))

    def _call(self, id: str, name: str, arguments: str, kind: CallKind) -> None:
        self.end_outputs()
        call = self._made[id] = ToolCall(id, name, arguments, kind)
        self._calls.append(call)

    def _output(self, path: str, item: OutputItem) -> None:
        self.end_turn()
        call = self._made.get(item.call_id)
        if call is None:
            given = item.call_id[:100]
            raise InvalidValue(
                {
                    "problem_en": f"no tool call with the id '{given}' stands before this output",
                    "problem_es": f"antes de este resultado no hay ninguna llamada con el id '{given}'",
                },
                param=f"{path}.call_id",
            )
        parts = item.output if isinstance(item.output, list) else [Part("input_text", item.output)]
        text = "\n".join(self._output_part(part, f"{path}.output[{index}]") for index, part in enumerate(parts))
        self.messages.append(ChatMessage("tool", (text,), answers=call))

    def _output_part(self, part: Part, path: str) -> str:
        if part.type != "input_image" or not self._rules.images or not is_given(part.image_url):
            return _shown(part)
        self._shown.append(self._rules.image(part.image_url, part.detail, 1, part.type, f"{path}.image_url"))
        return SHOWN_BELOW


def _parts(content: str | list[Part], path: str, rules: ContentRules) -> tuple[str, ...]:
    if isinstance(content, str):
        return (content,)
    return tuple(_text(part, f"{path}.content[{index}]", rules) for index, part in enumerate(content))


def _text(part: Part, path: str, rules: ContentRules) -> str:
    if part.type == "refusal":
        return part.refusal or ""
    if part.type in TEXT_PARTS:
        if part.text is None:
            raise MissingParameter(param=f"{path}.text")
        return part.text
    if part.type in OTHER_PARTS:
        raise rules.refusal(part.type, f"{path}.image_url" if is_given(part.image_url) else path)
    raise UnsupportedValue({"allowed": ", ".join((*TEXT_PARTS, "refusal"))}, param=f"{path}.type")


def _shown(part: Part) -> str:
    """A part of a tool's output, for a model that reads text only."""
    if part.type in TEXT_PARTS:
        return part.text or ""
    return NOT_SHOWN % ("file" if "file" in part.type else "image")
