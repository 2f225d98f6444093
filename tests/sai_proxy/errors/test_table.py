import inspect
import json
import re

import pytest

from sai_proxy import errors
from sai_proxy.errors.table import ERROR_TABLE, Language, describe
from sai_proxy.errors.wording import context_facts, credential_facts, timeout_facts
from sai_proxy.openai_api.error_body import error_body
from tests.support import check_schema

FACTS = {
    **{name: "fact" for row in ERROR_TABLE.values() for name in re.findall(r"\{(\w+)\}", row.es + row.en)},
    **credential_facts("user", "key"),
    **context_facts(9, 8),
    **timeout_facts(3),
}
ABSTRACT = {errors.ProxyError, errors.InvalidRequest, errors.AuthenticationFailed}
KINDS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, errors.ProxyError) and kind not in ABSTRACT
]


def test_every_kind_of_failure_has_its_row() -> None:
    assert set(ERROR_TABLE) == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_failure_is_an_openai_error_in_both_languages(kind: type[errors.ProxyError]) -> None:
    row = ERROR_TABLE[kind]
    spanish, english = (describe(kind(FACTS, param="model"), language) for language in ("es", "en"))
    assert spanish.message != english.message
    for form in (spanish, english):
        assert (form.status, form.type, form.code, form.param) == (row.status, row.type, row.code, "model")
        assert 400 <= form.status <= 599
        assert "{" not in form.message
        check_schema("error", json.loads(error_body(form)))


@pytest.mark.parametrize("kind", KINDS)
def test_the_wordings_use_the_same_facts(kind: type[errors.ProxyError]) -> None:
    row = ERROR_TABLE[kind]
    spanish, english = (set(re.findall(r"\{(\w+?)(?:_e[sn])?(?:_mid)?\}", text)) for text in (row.es, row.en))
    assert spanish == english


@pytest.mark.parametrize("kind", KINDS)
def test_a_forgotten_fact_is_no_second_failure(kind: type[errors.ProxyError]) -> None:
    assert describe(kind(), "es").message


@pytest.mark.parametrize("kind", [kind for kind in KINDS if issubclass(kind, errors.AuthenticationFailed)])
def test_a_401_has_the_words_by_which_litellm_knows_it(kind: type[errors.ProxyError]) -> None:
    for language in ("es", "en"):
        assert "Incorrect API key provided" in describe(kind(FACTS), language).message


def test_the_predecessors_sentences_keep_their_sense() -> None:
    facts = credential_facts("user", "key")
    assert (
        "La API Key proporcionada no es válida o ha expirado"
        in describe(errors.CredentialRejected(facts), "es").message
    )
    assert "Contexto demasiado largo" in describe(errors.ContextLengthExceeded(), "es").message


@pytest.mark.parametrize(
    ("error", "headers"),
    [
        (
            errors.RateLimited(credential_facts("user", "key"), retry_after_s=7),
            {"Retry-After": "7", "retry-after-ms": "7000"},
        ),
        (errors.UpstreamTimeout(retried=True), {"x-should-retry": "false"}),
        (errors.UpstreamTimeout(), {}),
        (errors.UpstreamConflict(), {"x-should-retry": "false"}),
        (errors.MethodNotAllowed({"method": "PUT", "path": "/x", "allowed": "GET, POST"}), {"Allow": "GET, POST"}),
    ],
)
def test_headers_say_whether_to_try_again(error: errors.ProxyError, headers: dict[str, str]) -> None:
    assert describe(error, "en").headers == headers


ASKED_AGAIN = re.compile(
    r"429|500|502|503|504|524|rate limit|overloaded|service unavailable|internal error|server.error|try again|"
    r"connection (?:error|refused|lost)|socket hang up|terminated|exhausted|timeout",
    re.IGNORECASE,
)
"""What opencode looks for anywhere in an error's body, to ask again. Source: its published package."""

FINAL = [kind for kind, row in ERROR_TABLE.items() if row.status in (400, 401, 403, 404, 405, 413, 415)]


@pytest.mark.parametrize("language", ["es", "en"])
@pytest.mark.parametrize("kind", FINAL, ids=lambda kind: kind.__name__)
def test_what_nothing_mends_does_not_read_as_if_a_repetition_could(
    kind: type[errors.ProxyError], language: Language
) -> None:
    facts = {"limit": 10_000, "allowed": "1..8", **context_facts(150_429, 128_000)}
    form = describe(kind(facts, param="messages"), language)
    assert not ASKED_AGAIN.search(f"{form.message} {form.type} {form.code} {form.param}")


@pytest.mark.parametrize("tokens", [128_001, 150_429, 429_500, 64_000_000])
def test_how_much_too_long_a_conversation_is_is_told_in_small_numbers(tokens: int) -> None:
    for language in ("es", "en"):
        assert not ASKED_AGAIN.search(str(context_facts(tokens, 128_000)[f"size_{language}"]))
