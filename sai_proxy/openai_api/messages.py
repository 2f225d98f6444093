"""Wire types of chat messages, and their way into the conversation that is asked of SAI.

Source: OpenAI's API reference, `POST /v1/chat/completions`; `null` counts as absent everywhere,
since clients send it for fields that the reference calls optional.
"""

from typing import Annotated

import msgspec
from msgspec import Meta, Raw, Struct, field

from sai_proxy.conversation.chat import ChatMessage
from sai_proxy.errors import InvalidType, UnsupportedContent
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


class FunctionCall(Struct, omit_defaults=True):
    name: str
    arguments: str


class CustomCall(Struct):
    name: str
    input: str


class ToolCall(Struct, omit_defaults=True):
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
    """The conversation in `messages`. Raises InvalidRequest for parts that are not text."""
    return tuple(_read(message, f"messages[{index}]") for index, message in enumerate(messages))


def _read(message: Message, path: str) -> ChatMessage:
    match message:
        case SystemMessage() | DeveloperMessage():
            return ChatMessage("system", _parts(message.content, path))
        case UserMessage():
            return ChatMessage("user", _parts(message.content, path))
        case AssistantMessage():
            return ChatMessage("assistant", _assistant_parts(message, path))
        case ToolMessage():
            answer = "\n".join(_parts(message.content, path))
            return ChatMessage("tool", (f"[Tool Response - ID: {message.tool_call_id}]\n{answer}",))
        case FunctionMessage():
            return ChatMessage("tool", (f"[Tool Response - ID: {message.name}]\n{message.content or ''}",))


def _assistant_parts(message: AssistantMessage, path: str) -> tuple[str, ...]:
    """Text first, then past tool calls in the text form that SAI's own answers use: SAI has no
    field for them, and a conversation without them would have answers to nothing."""
    parts = _parts(message.content, path) if message.content else ()
    if message.refusal:
        parts += (message.refusal,)
    calls: list[ToolCall] = list(message.tool_calls or ())
    if message.function_call:
        calls.append(ToolCall("", type="function", function=message.function_call))
    if calls:
        parts += (msgspec.json.encode({"tool_calls": calls}).decode(),)
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
