from datetime import UTC, datetime
from typing import Any

import pytest

from sai_proxy import errors
from sai_proxy.conversation.chat import ChatMessage
from sai_proxy.credentials import Credential, Kind, Source
from sai_proxy.sai_api import failures, template

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


USER = Credential("key", "user", "the-users-key")


def failure(status: int, body: str = "", headers: dict[str, str] | None = None, **options: Any) -> errors.ProxyError:
    return failures.failure_of(status, headers or {}, body, options.pop("credential", USER), now=NOW, **options)


@pytest.mark.parametrize("words", ["prompt is too long", "Access Denied", "403 Forbidden"])
def test_words_that_a_500_echoes_from_the_question_say_nothing(words: str) -> None:
    asked = template.build_payload((ChatMessage("user", (f"What does '{words}' mean?",)),), 0)
    assert type(failure(500, f"cannot run: {words}", payload=asked)) is errors.UpstreamError
    assert type(failure(500, f"cannot run: {words}", payload=b"{}")) is not errors.UpstreamError


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, "", errors.CredentialRejected),
        (403, "", errors.PermissionDenied),
        (500, "ACCESS DENIED to it", errors.PermissionDenied),
        (500, "The tool is not in your favourites", errors.PermissionDenied),
        (400, "you are not its owner", errors.UpstreamRejected),
        (422, "forbidden", errors.UpstreamRejected),
        (429, "forbidden", errors.RateLimited),
        (401, "prompt is too long", errors.CredentialRejected),
        (500, "Unauthorized", errors.PermissionDenied),
        (429, "Test template usage limit exceeded", errors.RateLimited),
        (429, "Template usage limit exceeded.", errors.RateLimited),
        (429, "anything", errors.RateLimited),
        (500, "prompt is too long: 210000 tokens", errors.ContextLengthExceeded),
        (500, "Prompt Is Too Long", errors.ContextLengthExceeded),
        (500, "maximum context length is 128000", errors.ContextLengthExceeded),
        (500, "context_length_exceeded", errors.ContextLengthExceeded),
        (400, "context_length_exceeded", errors.UpstreamRejected),
        (500, "bad tool: context window", errors.UpstreamError),
        (500, "OpenAICompatible", errors.UpstreamError),
        (500, "", errors.UpstreamError),
        (502, "<html>Bad gateway</html>", errors.UpstreamError),
        (503, "", errors.UpstreamUnavailable),
        (504, "", errors.UpstreamTimeout),
        (418, "", errors.UpstreamError),
        (400, "{}", errors.UpstreamRejected),
        (422, "", errors.UpstreamRejected),
        (404, "Not Found", errors.TemplateNotFound),
        (408, "", errors.UpstreamTimeout),
        (409, "", errors.UpstreamConflict),
        (413, "", errors.UpstreamTooLarge),
    ],
)
def test_a_status_and_its_body_mean_one_failure(status: int, body: str, kind: type[errors.ProxyError]) -> None:
    assert type(failure(status, body)) is kind


@pytest.mark.parametrize(
    ("location", "kind"),
    [
        ("https://login.microsoftonline.com/common", errors.CredentialRejected),
        ("/Account/Login?ReturnUrl=%2F", errors.CredentialRejected),
        ("https://sai.example.com/elsewhere", errors.UpstreamError),
        ("", errors.UpstreamError),
    ],
)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_a_login_page_is_a_refused_credential(
    status: int, location: str, kind: type[errors.ProxyError]
) -> None:
    assert type(failure(status, headers={"Location": location})) is kind


@pytest.mark.parametrize(
    ("source", "kind", "error"),
    [
        ("user", "key", errors.CredentialRejected),
        ("user", "cookie", errors.CredentialRejected),
        ("system", "key", errors.SystemCredentialRejected),
        ("system", "cookie", errors.SystemCredentialRejected),
    ],
)
def test_whose_credential_was_refused_decides_the_error(
    source: Source, kind: Kind, error: type[errors.ProxyError]
) -> None:
    assert type(failure(401, credential=Credential(kind, source, "v"))) is error


def test_sais_text_goes_to_the_detail_cut_and_without_the_credential() -> None:
    error = failure(500, "key the-users-key is fine " + "x" * 1000)
    assert error.detail is not None
    assert "the-users-key" not in error.detail
    assert len(error.detail) < 600
    assert "x" not in "".join(map(str, error.facts.values()))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7),
        ("0", 1),
        ("99999", 120),
        (None, 5),
        ("soon", 5),
        ("-3", 5),
        ("Thu, 01 Jan 2026 12:00:30 GMT", 30),
        ("Thu, 01 Jan 2026 11:00:00 GMT", 1),
    ],
)
def test_retry_after_is_read_in_both_forms_and_kept_within_bounds(text: str | None, seconds: int) -> None:
    headers = {} if text is None else {"Retry-After": text}
    assert failures.read_retry_after(headers, NOW) == seconds
    error = failure(429, headers=headers)
    assert error.retry_after_s == seconds


@pytest.mark.parametrize(
    ("page", "kind"),
    [
        ("<html><title>Sign in to your account</title></html>", errors.CredentialRejected),
        ("<html><script src='https://login.microsoftonline.com/x'></script>", errors.CredentialRejected),
        ("<html><body id='ConvergedSignIn'>", errors.CredentialRejected),
        ("<html>Microsoft ... SignIn", errors.CredentialRejected),
        ("<html>maintenance</html>", errors.UpstreamError),
    ],
)
def test_a_web_page_is_a_login_page_or_no_answer(page: str, kind: type[errors.ProxyError]) -> None:
    assert failures.looks_like_web_page("text/html; charset=utf-8", page)
    assert type(failures.login_page_failure(page, USER)) is kind


@pytest.mark.parametrize(
    ("content_type", "start"),
    [("text/plain", "<html>"), ("application/json", "<!DOCTYPE html>"), ("text/html", "Use <html> as the root")],
)
def test_a_models_text_about_html_is_no_web_page(content_type: str, start: str) -> None:
    assert not failures.looks_like_web_page(content_type, start)
