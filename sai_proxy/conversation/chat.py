"""What is asked and what it cost, free of any wire format."""

from msgspec import Struct


class ChatMessage(Struct, frozen=True):
    """One turn of a conversation.

    role: `system`, `user`, `assistant` or `tool`.
    parts: the text parts, in order; a plain string is one part.
    """

    role: str
    parts: tuple[str, ...]

    @property
    def text(self) -> str:
        return self.parts[0] if len(self.parts) == 1 else "\n".join(self.parts)

    @property
    def chars(self) -> int:
        """Length of `text`, in code points."""
        return sum(map(len, self.parts)) + max(len(self.parts) - 1, 0)


Conversation = tuple[ChatMessage, ...]


class Route(Struct, frozen=True):
    """Where a model name leads: a SAI template, and the model that it shall run instead of its own."""

    template_id: str
    model_override: str | None = None


class ChatRequest(Struct, frozen=True, kw_only=True):
    """What a client wants, after its wire format has been left behind.

    conversations: what is to be answered; chat has one, legacy completions one for each prompt.
    n: choices for each conversation, so that choice `i` belongs to conversation `i // n`.
    stops: strings before the first of which the answer ends. max_chars: after how many code points.
    echoes: text to put before the answers of each conversation, if any.
    text_param: the request's field that holds the conversations, for errors about their length.
    ignored: names of request fields that were sent but that SAI has no place for.
    """

    model: str
    route: Route
    conversations: tuple[Conversation, ...]
    n: int = 1
    stream: bool = False
    stops: tuple[str, ...] = ()
    max_chars: int | None = None
    echoes: tuple[str, ...] = ()
    text_param: str = "messages"
    ignored: tuple[str, ...] = ()

    @property
    def messages(self) -> tuple[ChatMessage, ...]:
        """Every message of every conversation."""
        return tuple(message for conversation in self.conversations for message in conversation)

    @property
    def choices(self) -> int:
        """How many choices the answer has."""
        return len(self.conversations) * self.n

    def echo_of(self, index: int) -> str:
        """What goes before the text of choice `index`."""
        return self.echoes[index // self.n] if self.echoes else ""

    def questions(self) -> "list[Question]":
        """What to ask SAI, one for each choice, in order of their index."""
        return [Question(conversation, self.route) for conversation in self.conversations for _ in range(self.n)]


class Question(Struct, frozen=True):
    """One conversation for SAI to answer, by one route."""

    conversation: Conversation
    route: Route

    @property
    def chars(self) -> int:
        """Length of all messages, in code points."""
        return sum(message.chars for message in self.conversation)


class Usage(Struct, frozen=True):
    """Token counts as SAI reports them; None where it gave no sensible number."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
