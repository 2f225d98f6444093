"""Wire types of chat messages, and their way into the conversation that is asked of SAI.

Source: OpenAI's API reference, `POST /v1/chat/completions`; `null` counts as absent everywhere,
since clients send it for fields that the reference calls optional.
"""

from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta, Struct, field

from sai_proxy.conversation import events
from sai_proxy.conversation.chat import ChatMessage, Image
from sai_proxy.errors import InvalidType, InvalidValue, MissingParameter
from sai_proxy.openai_api.content import ContentRules, check_images
from sai_proxy.openai_api.raw import Anything, absent


class TextPart(Struct, tag_field="type", tag="text"):
    text: str


class RefusalPart(Struct, tag_field="type", tag="refusal"):
    refusal: str


class ImagePart(Struct, tag_field="type", tag="image_url"):
    image_url: Anything = field(default_factory=absent)


class AudioPart(Struct, tag_field="type", tag="input_audio"):
    input_audio: Anything = field(default_factory=absent)


class FilePart(Struct, tag_field="type", tag="file"):
    file: Anything = field(default_factory=absent)


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
    audio: Anything = field(default_factory=absent)
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


def read_messages(messages: list[Message], rules: ContentRules) -> tuple[ChatMessage, ...]:
    """The conversation in `messages`. Raises InvalidRequest for parts that the model cannot read, and for results
    that answer no call."""
    made: dict[str, events.ToolCall] = {}
    conversation = []
    for message in messages:
        content, role = message.content, _PLAIN_ROLES.get(type(message))
        if role is not None and type(content) is str:  # as most are
            conversation.append(ChatMessage(role, (content,)))
        else:
            conversation.append(_read(message, f"messages[{len(conversation)}]", made, rules))
    check_images(conversation, "messages")
    return tuple(conversation)


_PLAIN_ROLES: Mapping[type, str] = {SystemMessage: "system", DeveloperMessage: "system", UserMessage: "user"}


def _read(message: Message, path: str, made: dict[str, events.ToolCall], rules: ContentRules) -> ChatMessage:
    """made: the calls before it, by their ids."""
    match message:
        case SystemMessage() | DeveloperMessage():
            return ChatMessage("system", _parts(message.content, path, rules))
        case UserMessage():
            return _user_message(message.content, path, rules)
        case AssistantMessage():
            calls = _calls(message, path)
            made.update((call.id, call) for call in calls)
            return ChatMessage("assistant", _assistant_parts(message, path, rules), calls)
        case ToolMessage():
            call = made.get(message.tool_call_id)
            if call is None:
                raise _unanswered(f"{path}.tool_call_id", message.tool_call_id)
            return ChatMessage("tool", ("\n".join(_parts(message.content, path, rules)),), answers=call)
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


def _assistant_parts(message: AssistantMessage, path: str, rules: ContentRules) -> tuple[str, ...]:
    parts = _parts(message.content, path, rules) if message.content else ()
    if message.refusal:
        parts += (message.refusal,)
    return parts or ("",)


def _user_message(content: Content, path: str, rules: ContentRules) -> ChatMessage:
    if isinstance(content, str) or not any(isinstance(part, ImagePart) for part in content):
        return ChatMessage("user", _parts(content, path, rules))
    texts: list[str] = []
    images: list[Image] = []
    for index, part in enumerate(content):
        place = f"{path}.content[{index}]"
        if isinstance(part, ImagePart):
            images.append(rules.image(part.image_url, None, len(texts), "image_url", f"{place}.image_url"))
        else:
            texts.append(_text(part, place, rules))
    return ChatMessage("user", tuple(texts), images=tuple(images))


def _parts(content: Content, path: str, rules: ContentRules) -> tuple[str, ...]:
    if isinstance(content, str):
        return (content,)
    if not content:
        raise InvalidType({"expected": "string | non-empty array", "found": "empty array"}, param=f"{path}.content")
    return tuple(_text(part, f"{path}.content[{index}]", rules) for index, part in enumerate(content))


def _text(part: Part, path: str, rules: ContentRules) -> str:
    match part:
        case TextPart():
            return part.text
        case RefusalPart():
            return part.refusal
        case ImagePart():
            raise rules.refusal("image_url", f"{path}.image_url")
        case AudioPart():
            raise rules.refusal("input_audio", f"{path}.input_audio")
        case FilePart():
            raise rules.refusal("file", f"{path}.file")
