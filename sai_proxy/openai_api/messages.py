"""Wire types of chat messages, and their way into the conversation that is asked of SAI.

Source: OpenAI's API reference, `POST /v1/chat/completions`; `null` counts as absent everywhere,
since clients send it for fields that the reference calls optional.
"""

from typing import Annotated

from msgspec import Meta, Raw, Struct, field

from sai_proxy.conversation import events
from sai_proxy.conversation.chat import ChatMessage
from sai_proxy.errors import InvalidType, InvalidValue, MissingParameter, UnsupportedContent
from sai_proxy.openai_api.raw import Anything


class TextPart(Struct, tag_field="type", tag="text"):
    text: str


class RefusalPart(Struct, tag_field="type", tag="refusal"):
    refusal: str


class ImagePart(Struct, tag_field="type", tag="image_url"):
    image_url: Anything = field(default_factory=Raw)


class AudioPart(Struct, tag_field="type", tag="input_audio"):
    input_audio: Anything = field(default_factory=Raw)


class FilePart(Struct, tag_field="type", tag="file"):
    file: Anything = field(default_factory=Raw)


Part = TextPart | RefusalPart | ImagePart | AudioPart | FilePart
Content = str | list[Part]


class SystemMessage(Struct, tag_field="role", tag="system"):
    content: Content
    name: str | None = None


class DeveloperMessage(Struct, tag_field="role", tag="developer"):
    content: Content
    name: str | None = None


class UserMessage(Struct, tag_field="role", tag="user"):
    content: Content
    name: str | None = None


class FunctionCall(Struct):
    name: str
    arguments: str


class CustomCall(Struct):
    name: str
    input: str


class ToolCall(Struct):
    id: str
    type: str | None = None
    function: FunctionCall | None = None
    custom: CustomCall | None = None


class AssistantMessage(Struct, tag_field="role", tag="assistant"):
    content: Content | None = None
    refusal: str | None = None
    name: str | None = None
    audio: Anything = field(default_factory=Raw)
    tool_calls: list[ToolCall] | None = None
    function_call: FunctionCall | None = None


class ToolMessage(Struct, tag_field="role", tag="tool"):
    content: Content
    tool_call_id: str


class FunctionMessage(Struct, tag_field="role", tag="function"):
    name: str
    content: str | None = None


Message = SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage | FunctionMessage
MAX_MESSAGES = 10_000
"""OpenAI has taken 2048."""

Messages = Annotated[list[Message], Meta(min_length=1, max_length=MAX_MESSAGES)]


def read_messages(messages: list[Message]) -> tuple[ChatMessage, ...]:
    """The conversation in `messages`. Raises InvalidRequest for parts that are not text, and for results that
    answer no call."""
    made: dict[str, events.ToolCall] = {}
    return tuple(_read(message, f"messages[{index}]", made) for index, message in enumerate(messages))


def _read(message: Message, path: str, made: dict[str, events.ToolCall]) -> ChatMessage:
    """made: the calls before it, by their ids."""
    match message:
        case SystemMessage() | DeveloperMessage():
            return ChatMessage("system", _parts(message.content, path))
        case UserMessage():
            return ChatMessage("user", _parts(message.content, path))
        case AssistantMessage():
            calls = _calls(message, path)
            made.update((call.id, call) for call in calls)
            return ChatMessage("assistant", _assistant_parts(message, path), calls)
        case ToolMessage():
            call = made.get(message.tool_call_id)
            if call is None:
                raise _unanswered(f"{path}.tool_call_id", message.tool_call_id)
            return ChatMessage("tool", ("\n".join(_parts(message.content, path)),), answers=call)
        case FunctionMessage():
            call = made.get(message.name, events.ToolCall("", message.name, ""))
            return ChatMessage("tool", (message.content or "",), answers=call)


def _unanswered(param: str, given: str) -> InvalidValue:
    given = given[:100]
    return InvalidValue(
        {
            "problem_en": f"no preceding assistant message has a tool call with the id '{given}'",
            "problem_es": f"ningún mensaje anterior del asistente tiene una llamada con el id '{given}'",
        },
        param=param,
    )


def _calls(message: AssistantMessage, path: str) -> tuple[events.ToolCall, ...]:
    calls = [_call(wire, f"{path}.tool_calls[{index}]") for index, wire in enumerate(message.tool_calls or ())]
    if message.function_call:  # which has no id: its result names the function
        name = message.function_call.name
        calls.append(events.ToolCall(name, name, message.function_call.arguments))
    return tuple(calls)


def _call(wire: ToolCall, path: str) -> events.ToolCall:
    if wire.custom is not None:
        return events.ToolCall(wire.id, wire.custom.name, wire.custom.input, "custom")
    if wire.function is None:
        raise MissingParameter(param=f"{path}.function")
    return events.ToolCall(wire.id, wire.function.name, wire.function.arguments)


def _assistant_parts(message: AssistantMessage, path: str) -> tuple[str, ...]:
    parts = _parts(message.content, path) if message.content else ()
    if message.refusal:
        parts += (message.refusal,)
    return parts or ("",)


def _parts(content: Content, path: str) -> tuple[str, ...]:
    if isinstance(content, str):
        return (content,)
    if not content:
        raise InvalidType({"expected": "string | non-empty array", "found": "empty array"}, param=f"{path}.content")
    return tuple(_text(part, f"{path}.content[{index}]") for index, part in enumerate(content))


def _text(part: Part, path: str) -> str:
    match part:
        case TextPart():
            return part.text
        case RefusalPart():
            return part.refusal
        case ImagePart():
            raise UnsupportedContent({"kind": "image_url"}, param=f"{path}.image_url")
        case AudioPart():
            raise UnsupportedContent({"kind": "input_audio"}, param=f"{path}.input_audio")
        case FilePart():
            raise UnsupportedContent({"kind": "file"}, param=f"{path}.file")
