"""LiteLLM's proxy, started for real with deploy/litellm/config.yaml, in front of this one."""

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.clients.background import Background
from tests.support import ROOT, SYSTEM_KEY, free_port

pytest.importorskip("litellm", reason="requirements/clients.lock is not installed")

MASTER_KEY = "sk-a-long-enough-master-key-for-tests-0123456789abcdef"
CONFIG = ROOT / "deploy" / "litellm" / "config.yaml"


@pytest.fixture(scope="module")
def litellm_url(world: Background, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    served = world.start_proxy()
    port = free_port()
    log = (tmp_path_factory.mktemp("litellm") / "log").open("w+")
    env = {**os.environ, "SAI_PROXY_URL": served.url + "/v1"}
    env |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MASTER_KEY": MASTER_KEY}
    command = [str(Path(sys.executable).with_name("litellm")), "--config", str(CONFIG)]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen(command, env=env, stdout=log, stderr=log, cwd=log.name.rsplit("/", 1)[0]) as process:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 90
        while True:
            try:
                urllib.request.urlopen(f"{url}/health/liveliness", timeout=2)
                break
            except (urllib.error.URLError, TimeoutError, ConnectionError):
                assert process.poll() is None, Path(log.name).read_text()[-3000:]
                assert time.monotonic() < deadline, "LiteLLM did not start"
                time.sleep(0.3)
        yield url
        process.terminate()


def client(url: str, **headers: str) -> openai.OpenAI:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return openai.OpenAI(base_url=url, api_key=MASTER_KEY, max_retries=0, default_headers=names)


def ask(text: str) -> Any:
    return [{"role": "user", "content": text}]


def test_plain(litellm_url: str, world: Background) -> None:
    answer = client(litellm_url).chat.completions.create(
        model="sai-model", messages=ask("[[answer=¡Hola!]][[usage=3,4]]")
    )
    assert answer.choices[0].message.content == "¡Hola!"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 7
    assert world.sai.calls[-1].key == SYSTEM_KEY


def test_streamed(litellm_url: str) -> None:
    chunks: Any = client(litellm_url).chat.completions.create(
        model="sai-model",
        messages=ask("[[answer=one two three]][[split=4]][[delay=0.01]]"),
        stream=True,
    )
    pieces = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert "".join(pieces) == "one two three"
    assert len(pieces) > 1


def test_with_a_users_key(litellm_url: str, world: Background) -> None:
    client(litellm_url, x_user_api_key="the-users-key").chat.completions.create(
        model="sai-model",
        messages=ask("hi"),
    )
    assert world.sai.calls[-1].key == "the-users-key"


def test_with_an_error(litellm_url: str, world: Background) -> None:
    before = len(world.sai.calls)
    with pytest.raises(openai.APIStatusError) as caught:
        client(litellm_url).chat.completions.create(model="sai-model", messages=ask("[[status=403]]"))
    assert "template must be owned by or shared with" in str(caught.value)
    assert len(world.sai.calls) == before + 1
    with pytest.raises(openai.AuthenticationError):
        client(litellm_url, x_user_api_key="invalid").chat.completions.create(model="sai-model", messages=ask("hi"))
