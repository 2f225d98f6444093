"""When an answer has ended, what it was made of goes at once: not only when the garbage collector comes, which it does
seldom here."""

import gc
from typing import Any

import pytest

from sai_proxy.openai_api.answer_format import Chunks
from sai_proxy.openai_api.response_answer import ResponseAnswer
from sai_proxy.relay.heartbeat import Heartbeat
from sai_proxy.relay.stream import StreamedAnswer
from sai_proxy.sai_api.exchange import Exchange
from sai_proxy.sai_api.reply import SaiReply
from tests.support import Proxy

PARTS = (StreamedAnswer, Heartbeat, Exchange, SaiReply, Chunks, ResponseAnswer)
TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "[[pieces=3]]"}]}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "[[status=503]]"}]}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "[[cut=chunked]][[pieces=4]]"}]}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hello"}], "n": 3}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hello"}], "tools": TOOLS}),
        ("/v1/responses", {"input": "hello", "store": True}),
    ],
    ids=["pieces", "refused", "broken", "choices", "tools", "responses"],
)
async def test_an_answer_goes_when_it_has_ended(proxy: Proxy, path: str, asked: dict[str, Any], stream: bool) -> None:
    await proxy.post({"model": "sai-model", "stream": stream, **asked}, path=path)
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            await proxy.post({"model": "sai-model", "stream": stream, **asked}, path=path)
        stayed = [type(thing).__name__ for thing in gc.get_objects() if isinstance(thing, PARTS)]
    finally:
        gc.enable()
    assert not stayed
