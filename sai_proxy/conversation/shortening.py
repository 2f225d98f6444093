"""How a conversation that is too long becomes shorter, where its client has asked for that."""

from sai_proxy.conversation.chat import Conversation


def length_of(conversation: Conversation) -> int:
    """Code points of all messages."""
    chars = 0
    for message in conversation:
        chars += message.chars
    return chars


def without_oldest(conversation: Conversation, max_chars: int) -> Conversation:
    """The conversation without its oldest turns, as far as need be. System messages and the last message stay; the
    result of a tool goes with its call, which stood before it."""
    surplus = length_of(conversation) - max_chars
    kept = []
    last = len(conversation) - 1
    dropping = surplus > 0
    for index, message in enumerate(conversation):
        if dropping and message.role != "system" and index != last:
            if surplus > 0 or message.answers is not None:
                surplus -= message.chars
                continue
            dropping = False
        kept.append(message)
    return tuple(kept)
