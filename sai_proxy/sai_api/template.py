"""`POST /api/templates/{id}/execute`: what is sent, and what its answers mean. Pure.

Source: observed behaviour of SAI and of its callers; nothing of it is documented by SAI. Texts of
failures are matched by fragment and in any letter case, since providers' texts pass through them.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

from sai_proxy import errors
from sai_proxy.conversation.chat import Question, Route, Usage
from sai_proxy.credentials import Credential
from sai_proxy.errors.wording import credential_facts

ACCEPT = "application/json, text/plain, */*"
"""With `*/*` in it SAI answers with bare text rather than with a quoted JSON string."""

OVERFLOW_TEXTS = (
    "prompt is too long",
    "context length",
    "context_length_exceeded",
    "context window",
    "input is too long",
)
DENIED_TEXTS = ("access denied", "tool is not in your favourites", "not its owner", "unauthorized", "forbidden")
LOGIN_PAGE_MARKS = ("sign in to your account", "login.microsoftonline.com", "convergedsignin")
LOGIN_URL = re.compile(r"microsoftonline\.com|login|sign-?in|oauth|/account/", re.IGNORECASE)

_WEB_PAGE = re.compile(r"\ufeff?\s*(?:(?:<!--.*?-->|<\?xml.*?\?>)\s*)*<(?:!doctype|html)\b", re.IGNORECASE | re.DOTALL)

MAX_LOGGED_CHARS = 500
MAX_RETRY_AFTER_S = 120
DEFAULT_RETRY_AFTER_S = 5
_MAX_TOKEN_DIGITS = 9


def execute_url(base_url: str, route: Route) -> str:
    """The URL that runs a template. The override is URL-encoded."""
    url = f"{base_url}/api/templates/{route.template_id}/execute"
    return url if route.model_override is None else f"{url}?modelOverride={quote(route.model_override, safe='')}"


def build_payload(question: Question, now_ms: int) -> dict[str, Any]:
    """The body of a call.

    The leading system messages become `inputs.system`, the last message `inputs.user`, and all
    after the leading ones `chatMessages`, the last one included, as the predecessor sent them.
    now_ms: Unix milliseconds; SAI's callers number the messages from there.
    """
    messages = question.conversation
    leading = next((i for i, message in enumerate(messages) if message.role != "system"), len(messages))
    payload: dict[str, Any] = {
        "inputs": {"system": "\n\n".join(message.text for message in messages[:leading]), "user": messages[-1].text}
    }
    history = [
        {"content": message.text, "role": message.role, "id": now_ms + index}
        for index, message in enumerate(messages[leading:])
    ]
    if history:
        payload["chatMessages"] = history
    return payload


def read_usage(headers: Mapping[str, str]) -> Usage:
    """Usage from SAI's response headers; what is absent or no sensible number is None."""
    return Usage(_token_count(headers.get("prompttokens")), _token_count(headers.get("completiontokens")))


def _token_count(text: str | None) -> int | None:
    text = (text or "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MAX_TOKEN_DIGITS else None


def looks_like_web_page(content_type: str, start: str) -> bool:
    """Whether a successful answer is an HTML document rather than a model's text about one."""
    return content_type.lower().startswith("text/html") and bool(_WEB_PAGE.match(start))


def login_page_failure(page: str, credential: Credential) -> errors.ProxyError:
    """What a web page in place of an answer means: mostly that the session has expired."""
    text = page.lower()
    if any(mark in text for mark in LOGIN_PAGE_MARKS) or ("microsoft" in text and "signin" in text):
        return _rejected(credential, "a login page")
    return errors.UpstreamError({"status": "HTML"}, detail=f"a web page: {credential.mask(page)[:MAX_LOGGED_CHARS]}")


def failure_of(
    status: int, headers: Mapping[str, str], body: str, credential: Credential, *, now: datetime, retried: bool = False
) -> errors.ProxyError:
    """The error for an answer whose status is not 2xx.

    body: its beginning, as text; it goes into the error's `detail`, for the log alone.
    retried: whether this was the last of several tries.
    """
    text = body.lower()
    detail = f"SAI answered {status}: {credential.mask(body)[:MAX_LOGGED_CHARS]}"
    facts = credential_facts(credential.source, credential.kind)
    if status == 401:
        return _rejected(credential, detail)
    if 300 <= status < 400:
        location = headers.get("Location", "")
        if LOGIN_URL.search(location):
            return _rejected(credential, "a redirect to a login page")
        return errors.UpstreamError({"status": status}, detail=f"a redirect, which is not followed: status {status}")
    if status == 403 or any(fragment in text for fragment in DENIED_TEXTS):
        return errors.PermissionDenied(facts, detail=detail)
    if status == 429:
        return errors.RateLimited(facts, detail=detail, retry_after_s=read_retry_after(headers, now))
    if any(fragment in text for fragment in OVERFLOW_TEXTS):
        return errors.ContextLengthExceeded(param="messages", detail=detail)
    match status:
        case 400 | 422:
            return errors.UpstreamRejected(detail=detail)
        case 404:
            return errors.TemplateNotFound(detail=detail)
        case 408:
            return errors.UpstreamTimeout(detail=detail, retried=retried)
        case 409:
            return errors.UpstreamConflict(detail=detail)
        case 413:
            return errors.UpstreamTooLarge(detail=detail)
    return errors.UpstreamError({"status": status}, detail=detail, retried=retried)


def _rejected(credential: Credential, detail: str) -> errors.ProxyError:
    kind = errors.CredentialRejected if credential.source == "user" else errors.SystemCredentialRejected
    return kind(credential_facts(credential.source, credential.kind), detail=detail)


def read_retry_after(headers: Mapping[str, str], now: datetime) -> int:
    """Seconds to wait, from a Retry-After of SAI's in either of its forms, kept within bounds that
    SDKs obey. now: an aware datetime."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        seconds = int(text[:_MAX_TOKEN_DIGITS])
    else:
        try:
            seconds = round((parsedate_to_datetime(text) - now).total_seconds())
        except (TypeError, ValueError, OverflowError):
            seconds = DEFAULT_RETRY_AFTER_S
    return min(max(seconds, 1), MAX_RETRY_AFTER_S)
