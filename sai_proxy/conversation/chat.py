"""What is asked and what it cost, free of any wire format."""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from sai_proxy.conversation.abilities import Abilities
from sai_proxy.conversation.events import ToolCall
from sai_proxy.conversation.offer import OutputFormat, Toolset

IMAGE_CHARS = 4_000
"""What an image counts as, since its tokens depend on a size that nobody here looks at: a thousand tokens."""


class Image(Struct, frozen=True):
    """A picture. before: index of the text part that it stands before. url: `https:` or `data:`. detail: as sent."""

    before: int
    url: str
    detail: str | None = None


class ChatMessage(Struct, frozen=True):
    """One turn of a conversation.

    role: `system`, `user`, `assistant` or `tool`.
    parts: the text parts, in order; a plain string is one part. images: those among them.
    calls: what an assistant has called. answers: of a `tool` message, the call whose result it is.
    """

    role: str
    parts: tuple[str, ...]
    calls: tuple[ToolCall, ...] = ()
    answers: ToolCall | None = None
    images: tuple[Image, ...] = ()

    def after(self, parts: tuple[str, ...]) -> "ChatMessage":
        """The same message with these text parts before its own."""
        images = tuple(replace(image, before=image.before + len(parts)) for image in self.images)
        return replace(self, parts=parts + self.parts, images=images)

    @property
    def text(self) -> str:
        return self.parts[0] if len(self.parts) == 1 else "\n".join(self.parts)

    @property
    def chars(self) -> int:
        """Length of `text`, in code points, and of the calls."""
        parts = self.parts
        text = len(parts[0]) if len(parts) == 1 else sum(map(len, parts)) + max(len(parts) - 1, 0)
        if not (self.calls or self.images):
            return text
        calls = sum(len(call.name) + len(call.arguments) for call in self.calls)
        return text + calls + IMAGE_CHARS * len(self.images)


Conversation = tuple[ChatMessage, ...]


class Route(Struct, frozen=True):
    """Where a model name leads: the road, one of SAI's endpoints; the target there, such as a template's id; what is
    wanted instead of its own ways, such as another model; and what it can."""

    target: str
    override: str | None = None
    road: str = "template"
    can: Abilities = Abilities()

    @property
    def name(self) -> str:
        """Road and target: what limits, and what fails, as one."""
        return f"{self.road}:{self.target}"


class ChatRequest(Struct, frozen=True, kw_only=True):
    """What a client wants, after its wire format has been left behind.

    conversations: what is to be answered; chat has one, legacy completions one for each prompt. None is
        left once SAI's questions have been made of them.
    choices: how many the answer has, as many for each conversation.
    stops: strings before the first of which the answer ends. max_chars: after how many code points.
    echoes: text to put before the answers of each conversation, if any.
    toolset: tools that the model may call, None without any. output: the form of the answer, None for free text.
    tools_json: the tools as the client sent them, for templates that have an input for them.
    left_out: types of tools that were offered and that nobody here runs.
    truncate: whether the oldest messages may be left out of a conversation that is too long.
    api: `chat` or `responses`, for templates that have an input for it.
    sampling: what the client wants of the model's writing, by OpenAI's names, as far as the road takes it.
    text_param: the request's field that holds the conversations, for errors about their length.
    ignored: names of request fields that were sent but that SAI has no place for.
    """

    model: str
    route: Route
    conversations: tuple[Conversation, ...]
    choices: int = 1
    stream: bool = False
    stops: tuple[str, ...] = ()
    max_chars: int | None = None
    echoes: tuple[str, ...] = ()
    toolset: Toolset | None = None
    output: OutputFormat | None = None
    tools_json: str | None = None
    left_out: tuple[str, ...] = ()
    truncate: bool = False
    api: Literal["chat", "responses"] = "chat"
    sampling: Mapping[str, float] = {}
    text_param: str = "messages"
    ignored: tuple[str, ...] = ()

    @property
    def custom_tools(self) -> frozenset[str]:
        """Names of the offered tools that take free text."""
        return frozenset(t.name for t in self.toolset.offered if t.kind == "custom") if self.toolset else frozenset()

    @property
    def messages(self) -> tuple[ChatMessage, ...]:
        """Every message of every conversation."""
        if len(self.conversations) == 1:
            return self.conversations[0]
        return tuple(message for conversation in self.conversations for message in conversation)

    def echo_of(self, index: int) -> str:
        """What goes before the text of choice `index`."""
        return self.echoes[index * len(self.echoes) // self.choices] if self.echoes else ""

    def without_text(self) -> "ChatRequest":
        """The same wishes, when what they are about is held elsewhere."""
        return replace(self, conversations=())


class Usage(Struct, frozen=True):
    """Token counts as SAI reports them; None where it gave no sensible number."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
