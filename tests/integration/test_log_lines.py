"""What the operator reads: the wide line, and no secret anywhere."""

import asyncio
import json
import logging
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sai_proxy.conversation.ide_prompt import WRAPPERS
from sai_proxy.simulator import Simulator
from tests.conftest import StartProxy
from tests.support import ROOT, Proxy, chat, environment, request_lines, running_process


async def line_of(caplog: pytest.LogCaptureFixture, proxy: Proxy, body: Any, **headers: str) -> dict[str, Any]:
    caplog.set_level(logging.INFO)
    caplog.clear()
    await proxy.post(body, headers={name.replace("_", "-"): value for name, value in headers.items()})
    (line,) = request_lines(caplog, proxy)
    return line


async def test_one_wide_line_says_all_of_a_request(caplog: pytest.LogCaptureFixture, proxy: Proxy) -> None:
    body = {
        "model": "sai-model",
        "stream": True,
        "messages": [
            {"role": "system", "content": "brief"},
            {"role": "user", "content": f"{WRAPPERS[0].before}[[usage=20,10]]{WRAPPERS[0].after}"},
        ],
    }
    line = await line_of(caplog, proxy, body, x_request_id="my-id", x_api_key="mine")
    assert line["level"] == "INFO"
    expected = {
        "request_id": "my-id",
        "method": "POST",
        "path": "/v1/chat/completions",
        "client": "127.0.0.1",
        "status": 200,
        "model": "sai-model",
        "sai_model": "simulator",
        "stream": True,
        "messages": 2,
        "roles": {"system": 1, "user": 1},
        "chars": 20,
        "unwrapped": 1,
        "credential": "user_key",
        "key_place": "x-api-key",
        "attempts": 1,
        "fallback": False,
        "prompt_tokens": 20,
        "completion_tokens": 10,
        "usage_estimated": False,
        "finish_reason": "stop",
        "client_disconnected": False,
    }
    assert {name: line[name] for name in expected} == expected
    assert 0 < line["ttfb_s"] <= line["duration_s"]
    assert line["tokens_per_s"] > 0
    assert "error" not in line


async def test_the_line_of_a_failure_has_its_code(caplog: pytest.LogCaptureFixture, start_proxy: StartProxy) -> None:
    proxy = await start_proxy(MAX_RETRIES="1")
    line = await line_of(caplog, proxy, chat("[[status=503]]"))
    assert (line["status"], line["error"], line["attempts"]) == (503, "upstream_unavailable", 2)


async def test_the_line_of_a_refusal_says_what_was_wrong(caplog: pytest.LogCaptureFixture, proxy: Proxy) -> None:
    line = await line_of(caplog, proxy, chat("hi", logprobs=True))
    assert (line["error"], line["param"]) == ("unsupported_parameter", "logprobs")


async def test_the_line_says_which_places_held_no_key(caplog: pytest.LogCaptureFixture, proxy: Proxy) -> None:
    line = await line_of(caplog, proxy, chat("hi"), authorization="Bearer raspberry", x_api_key="mine")
    assert line["ignored_keys"] == ["bearer: placeholder"]
    assert line["key_place"] == "x-api-key"
    assert "ignored_keys" not in await line_of(caplog, proxy, chat("hi"))


async def test_the_line_of_a_fallback_says_so(caplog: pytest.LogCaptureFixture, proxy: Proxy) -> None:
    line = await line_of(caplog, proxy, chat("[[usage=none]]"), x_user_api_key="limited")
    assert (line["fallback"], line["credential"], line["attempts"]) == (True, "system_cookie", 2)
    assert line["usage_estimated"] is True


async def test_sais_words_go_to_the_log_cut(caplog: pytest.LogCaptureFixture, proxy: Proxy) -> None:
    await line_of(caplog, proxy, chat(f'[[status=500]][[body="Oops {"y" * 2000}"]]'))
    (warning,) = [record for record in caplog.records if record.message == "request failed"]
    detail = vars(warning)["detail"]
    assert detail.startswith("SAI answered 500: Oops yyy")
    assert len(detail) < 530


async def test_health_probes_are_not_in_the_log(caplog: pytest.LogCaptureFixture, proxy: Proxy) -> None:
    caplog.set_level(logging.INFO)
    for path in ("/health/readiness", "/metrics"):
        await proxy.get(path)
    await proxy.get("/v1/models")
    assert [line["path"] for line in request_lines(caplog, proxy)] == ["/v1/models"]


CANARIES = {
    "user_api_key": "canary-user-header",
    "x-user-api-key": "canary-x-user-header",
    "Authorization": "Bearer canary-bearer",
    "x-api-key": "canary-x-api-key",
    "Cookie": "canary-client-cookie=1",
}
QUESTIONS = [
    "plain",
    "[[echo]]",
    "[[overflow]]",
    "[[provider-error]]",
    "[[reset=before]]",
    "[[pieces=4]][[reset=middle]]",
    "[[garbage=status]]",
    "[[garbage=header]]",
    "[[cut=length]]",
    "[[login=page]]",
    "[[login=redirect]]",
    "[[silence=0.6]]",
    "[[status=500]][[body=credential]]",
    "[[status=403]][[body=credential]]",
    *(f"[[status={status}]]" for status in (400, 401, 403, 404, 409, 422, 429, 500, 503)),
]


async def test_no_secret_is_ever_written(sai: Simulator, tmp_path: Path) -> None:
    """Canary secrets by every road and every kind of failure, at the most talkative level."""
    log_file = tmp_path / "sai.log"
    env = environment(
        sai.url,
        SAI_KEY="canary-system-key-limited-after-9",
        SAI_COOKIE="canary-system-cookie",
        VERBOSE_LOGGING="true",
        LOG_FILE=str(log_file),
        HEARTBEAT_SECONDS="0.2",
        REQUEST_TIMEOUT="0.5",
        MAX_RETRIES="1",
    )
    async with running_process(env) as process:
        for question in QUESTIONS:
            await asyncio.gather(
                *(
                    process.proxy.post(
                        chat(question, stream=stream),
                        headers={name: value},
                        path="/v1/chat/completions?key=canary-query",
                    )
                    for stream in (False, True)
                    for name, value in CANARIES.items()
                )
            )
        body = chat(litellm_params={"metadata": {"user_api_key": "canary-body"}})
        answers = [
            await process.proxy.post(body),
            await process.proxy.post(chat(litellm_params={"metadata": {"user_api_key": "canary-bad\n"}})),
            await process.proxy.post(chat(litellm_params={"metadata": {"user_api_key": {"canary": "canary-typed"}}})),
            await process.proxy.post(b'{"litellm_params": {"metadata": {"user_api_key": "canary-cut'),
            await process.proxy.post(chat(), headers={"x-api-key": "canary-" + "x" * 60_000}),
            await process.proxy.get("/canary-path-is-shown?token=canary-query"),
        ]
        output = await process.stop()
    written = output + log_file.read_text() + "".join(answer.text for answer in answers)
    assert written.count('"message":"request"') > 2 * 2 * len(QUESTIONS) * len(CANARIES), "in both outputs"
    assert '"message":"payload for SAI"' in written
    assert "canary-path-is-shown" in written, "the search would find a canary"
    assert set(re.findall(r"(?:canary|Bearer)[\w.-]*", written)) == {"canary-path-is-shown"}


def test_the_effective_configuration_is_printed_without_secrets() -> None:
    env = environment("https://sai.example.com", SAI_KEY="canary-key", ACCESS_TOKENS="canary-token")
    done = subprocess.run(
        [sys.executable, "-m", "sai_proxy", "check"], env=env, cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0
    assert "SAI_URL=https://sai.example.com" in done.stdout
    assert "canary" not in done.stdout + done.stderr
    assert json.dumps(done.stderr) == '""'
