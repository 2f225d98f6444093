import pytest

from middlewares import context_length_middleware
from sai_proxy.conversation.chat import ChatMessage, ChatRequest, Route
from sai_proxy.telemetry.record import RequestRecord
from tests.middlewares.conftest import StartLayer, answer_nothing, chat_request


@pytest.mark.parametrize(
    ("chat", "status"),
    [
        (chat_request("x" * 20, "x" * 20), 200),
        (chat_request("x" * 20, "x" * 21), 500),
        (chat_request("ñ" * 40), 200),
        (chat_request("😀" * 41), 500),
        (
            ChatRequest(
                model="m",
                route=Route("t"),
                conversations=((ChatMessage("user", ("x" * 30,)),), (ChatMessage("user", ("x" * 30,)),)),
            ),
            200,
        ),
    ],
)
async def test_four_characters_a_token_over_all_messages_of_a_conversation(
    start_layer: StartLayer, chat: ChatRequest, status: int
) -> None:
    client = await start_layer(context_length_middleware(10), answer_nothing, chat=chat)
    async with client.post("/") as response:
        assert response.status == status
        assert await response.text() == ("ContextLengthExceeded" if status == 500 else "")


async def test_the_record_has_what_was_measured(start_layer: StartLayer) -> None:
    record = RequestRecord(started=0)
    client = await start_layer(
        context_length_middleware(10), answer_nothing, chat=chat_request("ab", "c"), record=record
    )
    async with client.post("/"):
        pass
    assert (record.messages, record.roles, record.chars) == (2, {"user": 2}, 3)
