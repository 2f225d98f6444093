"""What a request leaves behind: nothing that only the garbage collector could find.

Python's collector runs seldom here (see `process.py`), and an exception that keeps itself alive keeps
the frames that it went through, with the bodies in them.
"""

import asyncio
import gc
from collections.abc import Iterator
from typing import Any

import pytest

from sai_proxy.errors import ProxyError
from sai_proxy.simulator import Simulator
from tests.conftest import StartProxy
from tests.support import Proxy, chat, free_port, until


@pytest.fixture
def uncollected() -> Iterator[list[Any]]:
    """Whatever only the collector would have freed, once it is asked for."""
    gc.collect()
    gc.disable()
    yield gc.garbage
    gc.set_debug(0)
    gc.garbage.clear()
    gc.enable()


REQUESTS = {
    "no model of ours": {**chat("hi"), "model": "nobody-knows-this"},
    "no JSON": b"{",
    "a wrong type": chat("hi", n="one"),
    "tools": chat("hi", tools=[{"type": "function"}]),
    "too long": chat("x" * 5_000),
    "too large": chat("x" * 50_000),
    "a failure of SAI's": chat("[[status=500]]"),
    "a failure in mid-stream": chat("[[reset=middle]]", stream=True),
    "a failure of SAI's, streamed": chat("[[status=500]]", stream=True),
    "a failure of two": chat("[[status=429]]", n=2),
    "a failure of two, in mid-stream": chat("[[reset=middle]]", n=2, stream=True),
    "an answer": chat("hi"),
    "a stream": chat("[[pieces=3]][[delay=0.01]]", stream=True),
    "two streams": chat("[[pieces=3]][[delay=0.01]]", n=2, stream=True),
}


@pytest.mark.parametrize("body", REQUESTS.values(), ids=REQUESTS)
async def test_no_failure_outlives_its_request(body: Any, start_proxy: StartProxy, uncollected: list[Any]) -> None:
    proxy = await start_proxy(CONTEXT_LIMIT_TOKENS="1000", CONTEXT_OVERFLOW="error", MAX_BODY_BYTES="30000")
    await proxy.post(body)
    await until(lambda: not proxy.lifecycle.answering)
    assert kinds_found(uncollected) == []


@pytest.mark.parametrize("fields", [{}, {"stream": True}, {"n": 2}, {"n": 2, "stream": True}], ids=str)
@pytest.mark.parametrize("retries", ["0", "1"])
async def test_no_question_outlives_a_sai_that_cannot_be_reached(
    fields: dict[str, Any], retries: str, start_proxy: StartProxy, uncollected: list[Any]
) -> None:
    proxy = await start_proxy(SAI_URL=f"http://127.0.0.1:{free_port()}", MAX_RETRIES=retries)
    assert (await proxy.ask(**fields)).status == 503
    assert kinds_found(uncollected) == []


@pytest.mark.parametrize("fields", [{}, {"stream": True}, {"n": 2}, {"n": 2, "stream": True}], ids=str)
@pytest.mark.parametrize("text", ["[[silence=forever]]", "[[split=1]][[stall=2]]"])
async def test_no_question_outlives_a_sai_that_is_too_slow(
    fields: dict[str, Any], text: str, start_proxy: StartProxy, uncollected: list[Any]
) -> None:
    proxy = await start_proxy(REQUEST_TIMEOUT="0.3", STREAM_IDLE_TIMEOUT="0.2")
    assert "upstream_timeout" in (await proxy.ask(text, **fields)).text
    assert kinds_found(uncollected) == []


async def test_no_client_that_leaves_is_kept(sai: Simulator, proxy: Proxy, uncollected: list[Any]) -> None:
    asking = asyncio.ensure_future(proxy.ask("[[silence=forever]]", stream=True))
    await until(lambda: sai.calls)
    asking.cancel()
    await asyncio.wait_for(sai.calls[0].ended.wait(), 5)
    await until(lambda: not proxy.lifecycle.answering)
    assert kinds_found(uncollected) == []


def kinds_found(uncollected: list[Any]) -> list[str]:
    """Failures and bodies of ours that the collector finds."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    return sorted({type(found).__name__ for found in uncollected if is_ours(found)})


def is_ours(found: Any) -> bool:
    return isinstance(found, ProxyError) or type(found).__module__.startswith(
        ("sai_proxy.conversation", "sai_proxy.openai_api")
    )
