"""What SAI's answers mean that are no answer: statuses, texts, redirects and login pages, on every road. Pure.

Source: observed behaviour of SAI and of its callers; nothing of it is documented by SAI. Texts of failures are matched
by fragment and in any letter case, since providers' texts pass through them.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime

from sai_proxy import errors
from sai_proxy.credentials import Credential
from sai_proxy.errors.wording import credential_facts

OVERFLOW_TEXTS = ("prompt is too long", "maximum context length", "context_length_exceeded")
"""What SAI, or the provider behind it, says of a conversation that does not fit; with status 500."""

DENIED_TEXTS = ("access denied", "tool is not in your favourites", "not its owner", "unauthorized", "forbidden")
LOGIN_PAGE_MARKS = ("sign in to your account", "login.microsoftonline.com", "convergedsignin")
LOGIN_URL = re.compile(r"microsoftonline\.com|login|sign-?in|oauth|/account/", re.IGNORECASE)

_WEB_PAGE = re.compile(
    r"\ufeff?\s*(?>(?:(?><!--.*?-->|<\?xml.*?\?>)\s*)*)<(?:!doctype|html)\b", re.IGNORECASE | re.DOTALL
)

MAX_LOGGED_CHARS = 500
MAX_RETRY_AFTER_S = 120
DEFAULT_RETRY_AFTER_S = 5
_MAX_DIGITS = 9


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
    status: int,
    headers: Mapping[str, str],
    body: str,
    credential: Credential,
    *,
    now: datetime,
    payload: bytes = b"",
    retried: bool = False,
) -> errors.ProxyError:
    """The error for an answer whose status is not 2xx. The status decides; only of a 500, which SAI gives
    for everything, do words say more, and only those that do not stand in the question, which it may echo.

    body: its beginning, as text; it goes into the error's `detail`, for the log alone. payload: what was
    asked. retried: whether this was the last of several tries.
    """
    detail = f"SAI answered {status}: {credential.mask(body)[:MAX_LOGGED_CHARS]}"
    facts = credential_facts(credential.source, credential.kind)
    if status == 401:
        return _rejected(credential, detail)
    if 300 <= status < 400:
        location = headers.get("Location", "")
        if LOGIN_URL.search(location):
            return _rejected(credential, "a redirect to a login page")
        return errors.UpstreamError({"status": status}, detail=f"a redirect, which is not followed: status {status}")
    match status:
        case 403:
            return errors.PermissionDenied(facts, detail=detail)
        case 429:
            return errors.RateLimited(facts, detail=detail, retry_after_s=read_retry_after(headers, now))
        case 400 | 422:
            return errors.UpstreamRejected(detail=detail)
        case 404:
            return errors.TemplateNotFound(detail=detail)
        case 408 | 504:
            return errors.UpstreamTimeout(detail=detail, retried=retried)
        case 409:
            return errors.UpstreamConflict(detail=detail)
        case 413:
            return errors.UpstreamTooLarge(detail=detail)
        case 503:
            return errors.UpstreamUnavailable(
                detail=detail, retried=retried, retry_after_s=read_retry_after(headers, now)
            )
    if status == 500 and _says(DENIED_TEXTS, body, payload):
        return errors.PermissionDenied(facts, detail=detail)
    if status == 500 and _says(OVERFLOW_TEXTS, body, payload):
        return errors.ContextLengthExceeded(param="messages", detail=detail)
    return errors.UpstreamError({"status": status}, detail=detail, retried=retried)


def _says(fragments: tuple[str, ...], body: str, payload: bytes) -> bool:
    """Whether SAI's own words hold one of these, in any letter case."""
    text = body.lower()
    found = [fragment for fragment in fragments if fragment in text]
    if not found:
        return False
    asked = payload.lower()
    return any(fragment.encode() not in asked for fragment in found)


def _rejected(credential: Credential, detail: str) -> errors.ProxyError:
    kind = errors.CredentialRejected if credential.source == "user" else errors.SystemCredentialRejected
    return kind(credential_facts(credential.source, credential.kind), detail=detail)


def read_retry_after(headers: Mapping[str, str], now: datetime) -> int:
    """Seconds for a client to wait, from a Retry-After of SAI's, kept within bounds that SDKs obey. now: an
    aware datetime."""
    asked = asked_wait(headers, now)
    return DEFAULT_RETRY_AFTER_S if asked is None else min(max(asked, 1), MAX_RETRY_AFTER_S)


def asked_wait(headers: Mapping[str, str], now: datetime) -> int | None:
    """Seconds that SAI asks to wait, in either form of Retry-After; None if it does not say."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return int(text[:_MAX_DIGITS])
    try:
        return round((parsedate_to_datetime(text) - now).total_seconds())
    except (TypeError, ValueError, OverflowError):
        return None
