from aiohttp import web

from middlewares import ide_unwrap_middleware
from sai_proxy.conversation.chat import ChatMessage, ChatRequest, Route
from sai_proxy.conversation.ide_prompt import WRAPPERS
from sai_proxy.keys import CHAT_REQUEST
from sai_proxy.telemetry.record import RequestRecord
from tests.middlewares.conftest import StartLayer

WRAPPED = f"{WRAPPERS[0].before}Fix it{WRAPPERS[0].after} class A"


async def show_parts(request: web.Request) -> web.Response:
    return web.json_response([list(message.parts) for message in request[CHAT_REQUEST].messages])


async def test_wrapped_messages_and_parts_are_replaced(start_layer: StartLayer) -> None:
    conversation = (
        ChatMessage("system", ("be brief",)),
        ChatMessage("user", (WRAPPED,)),
        ChatMessage("user", ("one", WRAPPED, "three")),
    )
    chat, record = ChatRequest(model="m", route=Route("t"), conversations=(conversation,)), RequestRecord(started=0)
    client = await start_layer(ide_unwrap_middleware(), show_parts, chat=chat, record=record)
    async with client.post("/") as response:
        assert await response.json() == [["be brief"], ["Fix it"], ["one", "Fix it", "three"]]
    assert record.unwrapped == 2
    assert chat.messages[1].parts == (WRAPPED,), "the request that came in is not changed in place"
