from sai_proxy.conversation.chat import ChatMessage, Conversation
from sai_proxy.conversation.events import ToolCall
from sai_proxy.conversation.shortening import length_of, without_oldest

CALL = ToolCall("call_1", "f", "{}")


def message(role: str, chars: int) -> ChatMessage:
    return ChatMessage(role, ("x" * chars,))


def shortened(conversation: Conversation, max_chars: int) -> list[tuple[str, int]]:
    return [(kept.role, len(kept.text)) for kept in without_oldest(conversation, max_chars)]


def test_the_oldest_turns_go_first_and_no_more_than_need_be() -> None:
    conversation = (message("system", 5), message("user", 30), message("assistant", 20), message("user", 10))
    assert shortened(conversation, 65) == [("system", 5), ("user", 30), ("assistant", 20), ("user", 10)]
    assert shortened(conversation, 64) == [("system", 5), ("assistant", 20), ("user", 10)]
    assert shortened(conversation, 1) == [("system", 5), ("user", 10)]


def test_a_result_goes_with_its_call() -> None:
    """Even where there would be room for it alone: it would answer nothing."""
    called = ChatMessage("assistant", ("",), (CALL,))
    result = ChatMessage("tool", ("18",), answers=CALL)
    conversation = (message("user", 100), called, result, message("assistant", 5), message("user", 5))
    without_question = length_of(conversation) - 100 - called.chars
    assert shortened(conversation, without_question) == [("assistant", 5), ("user", 5)]
