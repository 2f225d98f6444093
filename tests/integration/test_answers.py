"""What clients get, whole, from the whole application over real sockets."""

import json
from typing import Any

import pytest

from sai_proxy.conversation.ide_prompt import WRAPPERS
from sai_proxy.simulator import Simulator
from tests.conftest import StartProxy
from tests.support import SYSTEM_COOKIE, SYSTEM_KEY, TEMPLATE, USER_KEY, Proxy, chat, check_schema

TEXT = 'Hola, ¿cómo estás? "a\\b"\r\n\tñandú 漢字 😀 \u2028'


def directive(text: str) -> str:
    return f"[[answer={json.dumps(text)}]]"


async def test_an_answer_is_sais_text_in_openais_shape(proxy: Proxy) -> None:
    answer = await proxy.ask(directive(TEXT) + "[[usage=12,34]][[model=gpt-5.2]]")
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("application/json")
    assert answer.headers["x-sai-model"] == "gpt-5.2"
    body = answer.json
    check_schema("chat_completion", body)
    assert body["model"] == "sai-model"
    assert body["id"].startswith("chatcmpl-")
    assert answer.content == TEXT
    assert body["choices"][0]["finish_reason"] == "stop"
    usage = body["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (12, 34, 46)


@pytest.mark.parametrize("path", ["/chat/completions", "/v1/chat/completions"])
async def test_the_endpoint_has_both_paths(proxy: Proxy, path: str) -> None:
    assert (await proxy.post(chat(), path=path)).status == 200


@pytest.mark.parametrize("usage", ["none", "bad"])
async def test_usage_is_estimated_at_four_characters_a_token_where_sai_gives_none(proxy: Proxy, usage: str) -> None:
    question = f"[[answer=123456789]][[usage={usage}]]"
    usage_body = (await proxy.ask(question)).json["usage"]
    assert usage_body["prompt_tokens"] == -(-len(question) // 4)
    assert usage_body["completion_tokens"] == 3


@pytest.mark.parametrize(
    "how", ["[[json]]", "[[gzip]]", "[[split=1]]", "[[pieces=7]]", "[[type=none]]", "[[type=text/plain]]"]
)
async def test_the_text_is_the_same_however_sai_sends_it(proxy: Proxy, how: str) -> None:
    assert (await proxy.ask(directive(TEXT) + how)).content == TEXT


@pytest.mark.parametrize(
    ("how", "content"),
    [
        ("[[double]]", json.dumps(TEXT)),
        ("[[wrap=outputs]]", json.dumps({"outputs": TEXT})),
        ("[[encoding=latin-1]][[answer=áé]][[type=text/plain; charset=latin-1]]", "áé"),
        ("[[bytes=61ff62]]", "a\ufffdb"),
        ("[[truncate=4]]", "Hola"),
    ],
)
async def test_unusual_bodies_pass_as_what_they_are(proxy: Proxy, how: str, content: str) -> None:
    assert (await proxy.ask(directive(TEXT) + how)).content == content


async def test_an_empty_body_is_an_empty_answer_and_a_warning(proxy: Proxy, caplog: pytest.LogCaptureFixture) -> None:
    answer = await proxy.ask("[[empty]]")
    assert (answer.content, answer.json["choices"][0]["finish_reason"]) == ("", "stop")
    assert "SAI answered with no text" in [r.message for r in caplog.records if r.levelname == "WARNING"]


async def test_what_sai_receives(sai: Simulator, proxy: Proxy) -> None:
    await proxy.post(
        {
            "model": "sai-model",
            "messages": [
                {"role": "system", "content": "Eres"},
                {"role": "developer", "content": [{"type": "text", "text": "útil"}]},
                {"role": "user", "content": "a"},
                {"role": "assistant", "content": None},
                {"role": "user", "content": [{"type": "text", "text": "b"}, {"type": "text", "text": "c"}]},
            ],
            "temperature": 0.5,
            "metadata": {"a": "b"},
            "litellm_params": {"metadata": {"user_api_key": USER_KEY}},
        }
    )
    (call,) = sai.calls
    assert (call.method, call.path, call.query) == ("POST", f"/api/templates/{TEMPLATE}/execute", {})
    assert call.headers["Accept"] == "application/json, text/plain, */*"
    assert call.headers["Content-Type"] == "application/json"
    assert set(call.body) == {"inputs", "chatMessages"}
    assert call.body["inputs"] == {"system": "Eres\n\nútil", "user": "b\nc"}
    history = call.body["chatMessages"]
    assert [(m["content"], m["role"]) for m in history] == [("a", "user"), ("", "assistant"), ("b\nc", "user")]
    first = history[0]["id"]
    assert [m["id"] for m in history] == [first, first + 1, first + 2]
    assert first > 1_700_000_000_000
    assert USER_KEY not in json.dumps(call.body)


async def test_a_model_leads_to_its_template_and_override(sai: Simulator, start_proxy: StartProxy) -> None:
    proxy = await start_proxy(SAI_MODELS="a=t1,b@gpt/5 x,c=t3@claude")
    for model in "abc":
        answer = await proxy.ask(model=model)
        assert answer.json["model"] == model
    assert [(call.path.split("/")[3], call.query) for call in sai.calls] == [
        ("t1", {}),
        (TEMPLATE, {"modelOverride": "gpt/5 x"}),
        ("t3", {"modelOverride": "claude"}),
    ]


async def test_an_unknown_model_never_reaches_sai(sai: Simulator, proxy: Proxy) -> None:
    answer = await proxy.ask(model="gpt-9")
    assert (answer.status, answer.error["code"]) == (404, "model_not_found")
    assert sai.calls == []


# Authentication


@pytest.mark.parametrize(
    ("headers", "key", "cookie"),
    [
        ({}, SYSTEM_KEY, None),
        ({"user_api_key": USER_KEY}, USER_KEY, None),
        ({"x-user-api-key": USER_KEY}, USER_KEY, None),
        ({"Authorization": f"Bearer {USER_KEY}"}, USER_KEY, None),
        ({"x-api-key": USER_KEY}, USER_KEY, None),
        ({"user_api_key": "raspberry"}, SYSTEM_KEY, None),
        ({"user_api_key": ".AspNetCore.Cookies=mine"}, None, ".AspNetCore.Cookies=mine"),
    ],
)
async def test_one_credential_goes_to_sai(
    sai: Simulator, proxy: Proxy, headers: dict[str, str], key: str | None, cookie: str | None
) -> None:
    assert (await proxy.ask(headers=headers)).status == 200
    (call,) = sai.calls
    assert (call.key, call.cookie) == (key, cookie)
    assert "Authorization" not in call.headers


async def test_a_bare_system_cookie_gets_its_name(sai: Simulator, start_proxy: StartProxy) -> None:
    proxy = await start_proxy(SAI_KEY="", SAI_COOKIE="bare")
    await proxy.ask()
    assert (sai.calls[0].key, sai.calls[0].cookie) == (None, ".AspNetCore.Cookies=bare")


@pytest.mark.parametrize("key", ["limited-key", "quota-key"])
async def test_a_429_is_tried_once_more_with_the_cookie(sai: Simulator, proxy: Proxy, key: str) -> None:
    answer = await proxy.ask(headers={"user_api_key": key})
    assert answer.status == 200
    assert [(call.key, call.cookie) for call in sai.calls] == [(key, None), (None, SYSTEM_COOKIE)]


async def test_the_systems_key_falls_back_too(sai: Simulator, start_proxy: StartProxy) -> None:
    proxy = await start_proxy(SAI_KEY="limited-after-1")
    assert [(await proxy.ask()).status for _ in range(2)] == [200, 200]
    assert [call.cookie for call in sai.calls] == [None, None, SYSTEM_COOKIE]


async def test_when_the_cookie_is_limited_too_the_client_gets_429(sai: Simulator, start_proxy: StartProxy) -> None:
    proxy = await start_proxy(SAI_COOKIE=".AspNetCore.Cookies=limited")
    answer = await proxy.ask(headers={"user_api_key": "limited"})
    assert (answer.status, answer.error["code"], answer.headers["Retry-After"]) == (429, "rate_limit_exceeded", "5")
    assert "cookie" in answer.error["message"]
    assert len(sai.calls) == 2


@pytest.mark.parametrize(
    ("headers", "changes", "code", "words"),
    [
        ({"user_api_key": "invalid"}, {}, "invalid_api_key", "the API key given"),
        ({"user_api_key": "expired"}, {}, "invalid_api_key", "the API key given"),
        ({"user_api_key": "Cookies=expired"}, {}, "invalid_api_key", "session cookie given"),
        ({"user_api_key": "Cookies=expired-page"}, {}, "invalid_api_key", "session cookie given"),
        ({}, {"SAI_KEY": "invalid"}, "upstream_auth", "the system's API key"),
        ({}, {"SAI_KEY": "", "SAI_COOKIE": "expired"}, "upstream_auth", "the system's session cookie"),
    ],
)
async def test_a_401_is_final_and_says_which_credential(
    sai: Simulator,
    start_proxy: StartProxy,
    headers: dict[str, str],
    changes: dict[str, str],
    code: str,
    words: str,
) -> None:
    proxy = await start_proxy(**changes)
    answer = await proxy.ask(headers=headers)
    assert (answer.status, answer.error["type"], answer.error["code"]) == (401, "invalid_request_error", code)
    assert words in answer.error["message"]
    assert len(sai.calls) == 1


async def test_access_tokens_guard_the_systems_credentials(sai: Simulator, start_proxy: StartProxy) -> None:
    proxy = await start_proxy(ACCESS_TOKENS="token-one,token-two")
    refused = await proxy.ask()
    assert (refused.status, refused.error["code"]) == (401, "invalid_api_key")
    assert sai.calls == []
    assert (await proxy.ask(headers={"Authorization": "Bearer token-two"})).status == 200
    assert (await proxy.ask(headers={"user_api_key": USER_KEY})).status == 200
    assert [call.key for call in sai.calls] == [SYSTEM_KEY, USER_KEY]


async def test_a_user_without_token_never_falls_back_to_the_systems_cookie(
    sai: Simulator, start_proxy: StartProxy
) -> None:
    proxy = await start_proxy(ACCESS_TOKENS="token")
    assert (await proxy.ask(headers={"user_api_key": "limited"})).status == 429
    assert len(sai.calls) == 1


async def test_an_unusable_key_is_refused_without_asking_sai(sai: Simulator, proxy: Proxy) -> None:
    body = chat(litellm_params={"metadata": {"user_api_key": "evil\r\nX-Injected: 1"}})
    answer = await proxy.post(body)
    assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")
    assert "evil" not in answer.text
    assert sai.calls == []


async def test_one_users_session_does_not_stick_to_the_next_call(sai: Simulator, proxy: Proxy) -> None:
    await proxy.ask(headers={"user_api_key": "Cookies=mine"})
    await proxy.ask()
    assert sai.calls[1].cookie is None


# IDE unwrap and context guard


async def test_wrapped_messages_are_unwrapped_unless_turned_off(sai: Simulator, start_proxy: StartProxy) -> None:
    wrapped = f"{WRAPPERS[0].before}Fix it{WRAPPERS[0].after} class A"
    await (await start_proxy()).ask(wrapped)
    await (await start_proxy(IDE_UNWRAP="false")).ask(wrapped)
    assert [call.body["inputs"]["user"] for call in sai.calls] == ["Fix it", wrapped]
    assert sai.calls[0].body["chatMessages"][0]["content"] == "Fix it"


async def test_the_guard_measures_what_is_unwrapped(sai: Simulator, start_proxy: StartProxy) -> None:
    proxy = await start_proxy(CONTEXT_LIMIT_TOKENS="10", CONTEXT_OVERFLOW="error")
    wrapped = f"{WRAPPERS[0].before}Fix it{WRAPPERS[0].after} {'x' * 500}"
    assert (await proxy.ask(wrapped)).status == 200


@pytest.mark.parametrize("question", ["x" * 41, "[[overflow]]"])
async def test_an_overflow_is_an_answer_of_its_own(start_proxy: StartProxy, question: str) -> None:
    proxy = await start_proxy(CONTEXT_LIMIT_TOKENS="10", MESSAGES_LANG="es")
    answer = await proxy.ask(question)
    assert answer.status == 200
    assert answer.json["choices"][0]["finish_reason"] == "length"
    assert answer.content.startswith("Contexto demasiado largo")
    check_schema("chat_completion", answer.json)


@pytest.mark.parametrize("question", ["x" * 41, "[[overflow]]"])
async def test_an_overflow_is_an_error_if_the_operator_wants_it(start_proxy: StartProxy, question: str) -> None:
    proxy = await start_proxy(CONTEXT_LIMIT_TOKENS="10", CONTEXT_OVERFLOW="error")
    answer = await proxy.ask(question)
    assert (answer.status, answer.error["code"], answer.error["param"]) == (400, "context_length_exceeded", "messages")
    assert answer.headers["x-should-retry"] == "false"


async def test_the_guard_answers_before_sai_is_asked(sai: Simulator, start_proxy: StartProxy) -> None:
    proxy = await start_proxy(CONTEXT_LIMIT_TOKENS="10")
    await proxy.ask("x" * 41)
    assert sai.calls == []


async def test_a_providers_failure_is_no_overflow(proxy: Proxy) -> None:
    assert (await proxy.ask("[[provider-error]]")).status == 502


# Failures of SAI


@pytest.mark.parametrize("body", ["text", "json", "html"])
@pytest.mark.parametrize(
    ("status", "answered", "code"),
    [
        (400, 400, "upstream_rejected"),
        (403, 403, "template_access_denied"),
        (404, 404, "model_not_found"),
        (408, 504, "upstream_timeout"),
        (409, 409, "conflict"),
        (413, 413, "request_too_large"),
        (422, 400, "upstream_rejected"),
        (429, 429, "rate_limit_exceeded"),
        (500, 502, "upstream_error"),
        (502, 502, "upstream_error"),
        (503, 503, "upstream_unavailable"),
        (504, 504, "upstream_timeout"),
    ],
)
async def test_a_failure_of_sais_has_its_status_and_not_its_words(
    proxy: Proxy, status: int, body: str, answered: int, code: str
) -> None:
    answer = await proxy.ask(f"[[status={status}]][[body={body}]]")
    assert (answer.status, answer.error["code"]) == (answered, code)
    assert "went wrong" not in answer.text
    assert "html" not in answer.text
    check_schema("error", answer.json)


@pytest.mark.parametrize(
    ("question", "status", "code"),
    [
        ("[[reset=before]]", 502, "upstream_protocol"),
        ("[[reset=middle]][[pieces=4]]", 502, "upstream_protocol"),
        ("[[cut=length]]", 502, "upstream_protocol"),
        ("[[cut=chunked]][[pieces=4]]", 502, "upstream_protocol"),
        ("[[garbage=status]]", 502, "upstream_protocol"),
        ("[[garbage=chunk]]", 502, "upstream_protocol"),
        ("[[garbage=gzip]]", 502, "upstream_protocol"),
        ("[[garbage=header]]", 502, "upstream_protocol"),
        ("[[redirect=https://elsewhere.example.com/]]", 502, "upstream_error"),
        ("[[login=redirect]]", 401, "upstream_auth"),
        ("[[login=page]]", 401, "upstream_auth"),
        ("[[type=text/html]][[answer=<html>down for maintenance]]", 502, "upstream_error"),
    ],
)
async def test_a_broken_answer_is_an_error_without_partial_text(
    proxy: Proxy, question: str, status: int, code: str
) -> None:
    answer = await proxy.ask(question)
    assert (answer.status, answer.error["code"]) == (status, code)
    assert "simulator" not in answer.text


async def test_a_models_html_is_an_answer(proxy: Proxy) -> None:
    page = "<!DOCTYPE html><html>Sign in to your account</html>"
    assert (await proxy.ask(directive(page))).content == page


async def test_bytes_after_an_answer_do_not_touch_it_or_the_next(sai: Simulator, proxy: Proxy) -> None:
    for number in range(3):
        assert (await proxy.ask("[[extra]][[answer=a]]")).content == "a"
        await sai.calls[number].ended.wait()


@pytest.mark.parametrize(
    ("variable", "question"),
    [("REQUEST_TIMEOUT", "[[silence=forever]]"), ("STREAM_IDLE_TIMEOUT", "[[pieces=4]][[stall=2]]")],
)
async def test_a_stalled_answer_is_504(sai: Simulator, start_proxy: StartProxy, variable: str, question: str) -> None:
    proxy = await start_proxy(**{variable: "0.2"})
    answer = await proxy.ask(question)
    assert (answer.status, answer.error["code"]) == (504, "upstream_timeout")
    assert "0.2 s" in answer.error["message"]
    await sai.calls[0].ended.wait()
    assert not sai.calls[0].completed


async def test_the_idle_time_ends_with_each_piece(start_proxy: StartProxy) -> None:
    proxy = await start_proxy(STREAM_IDLE_TIMEOUT="0.4")
    answer = await proxy.ask("[[answer=abcdef]][[pieces=6]][[delay=0.1]]")
    assert answer.content == "abcdef"


async def test_nobody_listening_is_503(start_proxy: StartProxy) -> None:
    proxy = await start_proxy(SAI_URL="http://127.0.0.1:1")
    answer = await proxy.ask()
    assert (answer.status, answer.error["code"]) == (503, "upstream_unreachable")
    assert answer.headers["Retry-After"] == "5"


# Retries


async def test_a_status_that_is_named_is_tried_again(sai: Simulator, start_proxy: StartProxy) -> None:
    proxy = await start_proxy(MAX_RETRIES="2", RETRY_STATUSES="502,503")
    for status in (502, 503):
        sai.calls.clear()
        answer = await proxy.ask(f"[[status={status}]][[times=2]][[answer=at last]]")
        assert answer.content == "at last"
        assert len(sai.calls) == 3


@pytest.mark.parametrize("how", ["status=500", "status=502", "status=504", "reset=before", "silence=forever"])
@pytest.mark.parametrize("fields", [{}, {"n": 8}], ids=str)
async def test_what_sai_may_have_run_is_asked_once(
    sai: Simulator, start_proxy: StartProxy, how: str, fields: dict[str, Any]
) -> None:
    proxy = await start_proxy(MAX_RETRIES="3", REQUEST_TIMEOUT="0.3")
    assert (await proxy.ask(f"[[{how}]]", **fields)).status in (502, 504)
    assert len(sai.calls) <= fields.get("n", 1)


async def test_used_up_retries_tell_the_client_not_to_multiply_them(sai: Simulator, start_proxy: StartProxy) -> None:
    proxy = await start_proxy(MAX_RETRIES="1")
    answer = await proxy.ask("[[status=503]]")
    assert (answer.status, answer.headers["x-should-retry"]) == (503, "false")
    assert len(sai.calls) == 2


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 409, 429, 500])
async def test_other_failures_are_not_tried_again(sai: Simulator, start_proxy: StartProxy, status: int) -> None:
    proxy = await start_proxy(MAX_RETRIES="3", SAI_COOKIE="")
    answer = await proxy.ask(f"[[status={status}]]")
    assert len(sai.calls) == 1
    assert "x-should-retry" not in answer.headers or status == 409


async def test_retry_after_is_honoured(
    sai: Simulator, start_proxy: StartProxy, caplog: pytest.LogCaptureFixture
) -> None:
    proxy = await start_proxy(MAX_RETRIES="1")
    assert (await proxy.ask("[[status=503]][[times=1]][[retry-after=1]][[answer=ok]]")).content == "ok"
    waits = [record.wait_s for record in caplog.records if record.message == "asking SAI again"]  # type: ignore[attr-defined]
    assert waits == [1]


# Error style


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (chat("[[status=500]]"), "internal error"),
        (chat("[[status=401]]"), "not valid or has expired"),
        (chat(model="gpt-9"), "does not exist"),
        (chat(n=500), "Invalid value for 'n'"),
        (b"{", "not valid JSON"),
    ],
)
async def test_failures_are_messages_if_the_operator_wants_it(start_proxy: StartProxy, body: Any, words: str) -> None:
    proxy = await start_proxy(ERROR_STYLE="message")
    answer = await proxy.post(body)
    assert answer.status == 200
    assert answer.json["choices"][0]["finish_reason"] == "error"
    assert words in answer.content


async def test_other_routes_keep_their_errors_in_message_style(start_proxy: StartProxy) -> None:
    proxy = await start_proxy(ERROR_STYLE="message")
    assert (await proxy.get("/v1/nothing")).status == 404
