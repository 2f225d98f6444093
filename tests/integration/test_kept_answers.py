"""Answers that several processes keep together, in a real Redis (or Valkey)."""

import asyncio
import random
import shutil
import string
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from sai_proxy.keys import ADMISSION
from sai_proxy.simulator import Simulator, simulator
from tests.support import SYSTEM_KEY, USER_KEY, Process, Proxy, environment, free_port, running_process, running_proxy

SERVER = shutil.which("valkey-server") or shutil.which("redis-server")
pytestmark = pytest.mark.skipif(SERVER is None, reason="no valkey-server or redis-server on this machine")

PATH = "/v1/responses"
PASSWORD = "canary-of-the-store"


class Redis:
    """A server of the test's own on one port, which may be stopped and started."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"redis://:{PASSWORD}@127.0.0.1:{self.port}/0"
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        assert SERVER is not None
        self._process = await asyncio.create_subprocess_exec(
            SERVER,
            *("--port", str(self.port), "--bind", "127.0.0.1", "--requirepass", PASSWORD, "--save", ""),
            cwd=self._folder,
            stdout=asyncio.subprocess.DEVNULL,
        )
        async with asyncio.timeout(10):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                except OSError:
                    await asyncio.sleep(0.02)
                else:
                    writer.close()
                    return

    async def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            await self._process.wait()
            self._process = None

    async def command(self, *words: str) -> bytes:
        """What it answers, raw."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        for line in (f"AUTH {PASSWORD}", " ".join(words), "QUIT"):
            writer.write(line.encode() + b"\r\n")
        answer = await reader.read()
        writer.close()
        return answer


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[Redis]:
    running = Redis(tmp_path)
    await running.start()
    yield running
    await running.stop()


@asynccontextmanager
async def process(sai: Simulator, redis: Redis, **changes: str) -> AsyncIterator[Process]:
    async with running_process(environment(sai.url, RESPONSES_STORE=redis.url, **changes)) as running:
        yield running


async def ask(proxy: Proxy, input: Any = "one", *, key: str = USER_KEY, **fields: Any) -> Any:
    headers = {"Authorization": f"Bearer {key}"}
    answer = await proxy.post({"model": "sai-model", "input": input, **fields}, path=PATH, headers=headers)
    return answer.json


async def milliseconds_left(redis: Redis, key: str) -> int:
    answer = await redis.command("PTTL", key)
    return int(next(line for line in answer.splitlines() if line.startswith(b":"))[1:])


async def test_a_conversation_goes_on_at_another_process(redis: Redis) -> None:
    async with simulator() as sai, process(sai, redis) as first, process(sai, redis) as second:
        made = await ask(first.proxy, "one")
        went_on = await ask(second.proxy, "two", previous_response_id=made["id"])
        await ask(first.proxy, "three", previous_response_id=went_on["id"])
        told = [message["content"] for message in sai.calls[-1].body["chatMessages"]]
        assert told[::2] == ["one", "two", "three"]
        reference = [{"type": "item_reference", "id": made["output"][0]["id"]}, {"role": "user", "content": "x"}]
        assert (await ask(second.proxy, reference))["status"] == "completed"
        lost = await ask(second.proxy, previous_response_id=made["id"], key="b3RoZXIta2V5")
        assert lost["error"]["code"] == "previous_response_not_found"
        logs = await first.stop() + await second.stop()
    assert PASSWORD not in logs
    for secret in (USER_KEY, SYSTEM_KEY):
        assert secret.encode() not in await redis.command("KEYS", "*")


async def test_what_is_kept_expires_by_itself(redis: Redis) -> None:
    async with simulator() as sai, running_proxy(sai, RESPONSES_STORE=redis.url) as proxy:
        await ask(proxy)
    (key,) = [line for line in (await redis.command("KEYS", "*")).splitlines() if line.startswith(b"sai-proxy:")]
    assert 3_590_000 < await milliseconds_left(redis, key.decode()) <= 3_600_000


async def test_what_is_used_is_kept_longer_and_what_is_deleted_is_gone(redis: Redis) -> None:
    async with simulator() as sai, running_proxy(sai, RESPONSES_STORE=redis.url) as proxy:
        made = await ask(proxy)
        (key,) = [line for line in (await redis.command("KEYS", "*")).splitlines() if line.startswith(b"sai-proxy:")]
        await redis.command("PEXPIRE", key.decode(), "60000")
        assert (await ask(proxy, "two", previous_response_id=made["id"]))["status"] == "completed"
        assert await milliseconds_left(redis, key.decode()) > 3_590_000
        mine, url = {"Authorization": f"Bearer {USER_KEY}"}, f"{proxy.url}{PATH}/{made['id']}"
        async with proxy.session.delete(url, headers=mine) as response:
            assert (await response.json())["deleted"] is True
        async with proxy.session.get(url, headers=mine) as response:
            assert response.status == 404
        assert key not in await redis.command("KEYS", "*")


async def test_long_answers_are_recalled_whole(redis: Redis) -> None:
    """What does not compress, and more of it than is read at first."""
    noise = "".join(random.Random(7).choices(string.ascii_letters + string.digits, k=300_000))
    async with simulator() as sai, running_proxy(sai, RESPONSES_STORE=redis.url) as proxy:
        made = await ask(proxy, metadata={"noise": noise})
        (key,) = [line for line in (await redis.command("KEYS", "*")).splitlines() if line.startswith(b"sai-proxy:")]
        await redis.command("PEXPIRE", key.decode(), "60000")
        async with proxy.session.get(
            f"{proxy.url}{PATH}/{made['id']}", headers={"Authorization": f"Bearer {USER_KEY}"}
        ) as response:
            assert (await response.json())["metadata"] == {"noise": noise}
        assert await milliseconds_left(redis, key.decode()) > 3_590_000
        assert (await ask(proxy, "two", previous_response_id=made["id"]))["status"] == "completed"
        assert proxy.app[ADMISSION].held == 0


async def test_a_crowd_costs_no_answer_and_no_state(redis: Redis) -> None:
    """More at once than there are connections to the store."""
    async with simulator(recording=False) as sai, running_proxy(sai, RESPONSES_STORE=redis.url) as proxy:

        async def converse() -> str:
            made = await ask(proxy, "one")
            return str((await ask(proxy, "two", previous_response_id=made["id"])).get("status"))

        assert Counter(await asyncio.gather(*(converse() for _ in range(300)))) == {"completed": 300}
        assert (await proxy.get("/health/readiness")).json["store"] == "ok"


async def test_a_server_that_was_started_anew_costs_nothing(redis: Redis) -> None:
    """The connections that are kept to it have ended meanwhile."""
    async with simulator() as sai, running_proxy(sai, RESPONSES_STORE=redis.url) as proxy:
        await ask(proxy)
        await redis.stop()
        await redis.start()
        made = await ask(proxy)
        assert (await ask(proxy, "two", previous_response_id=made["id"]))["status"] == "completed"
        assert 'operation="keep",outcome="failed"} 0.0' in (await proxy.get("/metrics")).text


async def test_replicas_with_other_credentials_know_a_caller_by_the_salt_they_share(redis: Redis) -> None:
    """Else while a secret is rotated, half of the replicas would not know anybody."""
    urls = {"RESPONSES_STORE": redis.url}
    async with (
        simulator() as sai,
        running_proxy(sai, KEY_ID_SALT="salt", **urls) as first,
        running_proxy(sai, KEY_ID_SALT="salt", SAI_KEY="YW5vdGhlci1zeXN0ZW0ta2V5", **urls) as second,
        running_proxy(sai, KEY_ID_SALT="another", **urls) as third,
    ):
        made = await ask(first)
        assert (await ask(second, "two", previous_response_id=made["id"]))["status"] == "completed"
        lost = await ask(third, "two", previous_response_id=made["id"])
        assert lost["error"]["code"] == "previous_response_not_found"


async def test_a_store_that_is_down_costs_the_state_and_no_answer(redis: Redis) -> None:
    async with simulator() as sai, running_proxy(sai, RESPONSES_STORE=redis.url) as proxy:
        made = await ask(proxy)
        await redis.stop()
        for stream in (False, True):
            answer = await proxy.post({"model": "sai-model", "input": "x", "stream": stream}, path=PATH)
            assert answer.status == 200
            assert "completed" in answer.text
        refused = await proxy.post({"model": "sai-model", "input": "x", "previous_response_id": made["id"]}, path=PATH)
        assert (refused.status, refused.error["code"]) == (503, "store_unavailable")
        assert refused.headers["Retry-After"] == "5"
        assert (await proxy.get("/health/readiness")).json["store"] == "failing"
        assert (await proxy.get("/health/readiness")).status == 200
        metrics = (await proxy.get("/metrics")).text
        assert 'sai_proxy_kept_answers_total{operation="keep",outcome="failed"} 2.0' in metrics
        assert 'sai_proxy_failures_total{code="store_unavailable",fault="proxy"} 1.0' in metrics


async def test_a_store_that_comes_back_is_used_again(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sai_proxy.store.answer_store.REST_S", 0.1)
    async with simulator() as sai, running_proxy(sai, RESPONSES_STORE=redis.url) as proxy:
        await ask(proxy)
        await redis.stop()
        await ask(proxy)
        await redis.start()
        async with asyncio.timeout(10):
            while (await proxy.get("/health/readiness")).json["store"] == "failing":
                made = await ask(proxy)
        assert (await ask(proxy, "two", previous_response_id=made["id"]))["status"] == "completed"


async def test_a_store_that_hangs_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sai_proxy.store.redis.CALL_TIMEOUT_S", 0.1)

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as silent:
        port = silent.sockets[0].getsockname()[1]
        async with simulator() as sai, running_proxy(sai, RESPONSES_STORE=f"redis://127.0.0.1:{port}") as proxy:
            async with asyncio.timeout(5):
                for _ in range(20):
                    assert (await ask(proxy))["status"] == "completed"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"$abc\r\n",
        b"*-7\r\n",
        b":x\r\n",
        b":5\r\n",
        b"*1\r\n:1\r\n",
        b"%1\r\n",
        b"\xff\xfe\r\n",
        b"$9\r\nhalf",
    ],
)
async def test_what_speaks_no_redis_costs_no_answer(said: bytes, stream: bool) -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(4096):
            writer.write(said)
        writer.close()

    async with await asyncio.start_server(babble, "127.0.0.1", 0) as peer:
        port = peer.sockets[0].getsockname()[1]
        async with simulator() as sai, running_proxy(sai, RESPONSES_STORE=f"redis://127.0.0.1:{port}") as proxy:
            answer = await proxy.post({"model": "sai-model", "input": "x", "stream": stream}, path=PATH)
            assert answer.status == 200
            assert '"status":"completed"' in answer.text
            assert (await proxy.get("/health/readiness")).json["store"] == "failing"
            refused = await ask(proxy, previous_response_id="resp_" + "0" * 48)
            assert refused["error"]["code"] == "store_unavailable"
            assert len(sai.calls) == 1


async def test_a_wrong_password_is_no_secret_in_the_log(redis: Redis) -> None:
    wrong = redis.url.replace(PASSWORD, "canary-wrong")
    async with (
        simulator() as sai,
        running_process(environment(sai.url, RESPONSES_STORE=wrong)) as running,
    ):
        assert (await ask(running.proxy))["status"] == "completed"
        log = await running.stop()
    assert "kept answers are out of reach" in log
    assert "canary" not in log
