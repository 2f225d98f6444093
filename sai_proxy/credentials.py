"""Credentials for SAI: where they may stand in a request, and which ones to try in which order."""

import html
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple
from urllib.parse import unquote

from sai_proxy.errors import CredentialKindNeeded, CredentialUnusable
from sai_proxy.errors.wording import credential_kind_facts

COOKIE_MARK = "Cookies"
"""A key that contains this is a browser's session cookie (the predecessor's convention)."""

COOKIE_NAME = ".AspNetCore.Cookies"
MAX_KEY_CHARS = 8 * 1024
MAX_COOKIE_CHARS = 32 * 1024

_JSON_ESCAPE = re.compile(r'\\(?:u([0-9a-fA-F]{4})|(["\\/]))')
_MAX_NESTED_FORMS = 3

_NAMED_COOKIE = re.compile(r"[^=;,\s]+=[^=]")
_BEARER = re.compile(r"^(?:bearer(?:\s+|$))+", re.IGNORECASE)
_HEADER_SAFE = re.compile(r"[\x20-\x7e]+")

Kind = Literal["key", "cookie"]
Source = Literal["user", "system"]


@dataclass(frozen=True, slots=True)
class Credential:
    """One way to identify oneself to SAI. Its value stays out of every representation."""

    kind: Kind
    source: Source
    value: str = field(repr=False)

    @property
    def label(self) -> str:
        """Kind and source, fit for logs and metrics."""
        return f"{self.source}_{self.kind}"

    @property
    def header(self) -> tuple[str, str]:
        """Name and value of the one header that carries it."""
        return ("Cookie" if self.kind == "cookie" else "X-Api-Key", self.value)

    def mask(self, text: str) -> str:
        """`text` without this credential, in whatever form it stands there: as it is, a cookie without its
        name, and either as JSON, URLs or HTML write it. A text that holds such a form comes back in its
        plain one."""
        values = {self.value, *(pair.partition("=")[2] for pair in self.value.split("; ") if self.kind == "cookie")}
        secrets = sorted(filter(None, values), key=len, reverse=True)
        for _ in range(_MAX_NESTED_FORMS):
            for secret in secrets:
                text = text.replace(secret, "***")
            plain = next((form for form in _plain_forms(text) if any(secret in form for secret in secrets)), None)
            if plain is None:
                break
            text = plain
        return text


def _plain_forms(text: str) -> Iterator[str]:
    """What `text` may stand for, if it was escaped, once or twice."""
    for undo in _UNESCAPES:
        once = undo(text)
        if once != text:
            yield once
            yield from (twice for again in _UNESCAPES if (twice := again(once)) != once)


def _unescape_json(text: str) -> str:
    return _JSON_ESCAPE.sub(lambda match: chr(int(match[1], 16)) if match[1] else match[2], text)


_LONG_NUMBER = re.compile(r"&#x?[0-9a-fA-F]{20,}")


def _unescape_html(text: str) -> str:
    """A number with thousands of digits, which Python refuses to read, stays what it is: it is no character."""
    return html.unescape(_LONG_NUMBER.sub(lambda match: f"&amp;{match[0][1:]}", text))


_UNESCAPES: tuple[Callable[[str], str], ...] = (_unescape_json, unquote, _unescape_html)


def make_credential(text: str, source: Source, *, cookie: bool = False) -> Credential:
    """A credential from what somebody pasted: `cookie` says that it is one whatever it looks like.

    Raises CredentialUnusable for text that cannot be a header's value. No length below the caps is
    refused: SAI's keys have been seen with 22 and 24 characters.
    """
    is_cookie = cookie or COOKIE_MARK in text
    limit = MAX_COOKIE_CHARS if is_cookie else MAX_KEY_CHARS
    if len(text) > limit or not _HEADER_SAFE.fullmatch(text):
        raise CredentialUnusable()
    if is_cookie:
        return Credential("cookie", source, text if _NAMED_COOKIE.match(text) else f"{COOKIE_NAME}={text}")
    return Credential("key", source, text)


class FoundKey(NamedTuple):
    """A user's key and the place where it stood, or None for both; and the places before it that held
    none, with the reason: `bearer: placeholder`."""

    key: str | None
    place: str | None
    ignored: list[str]


def bare_key(text: str) -> str:
    """A key as it stands in a header or a field, without blanks and without the `Bearer` that some put before it."""
    return _BEARER.sub("", text.strip())


def first_key(candidates: Iterable[tuple[str, str]], placeholders: frozenset[str]) -> FoundKey:
    """The first candidate (place, text) that is a key at all: bare, not empty, not one of
    `placeholders` (given in lower case, compared in any)."""
    ignored: list[str] = []
    for place, text in candidates:
        key = bare_key(text)
        if key and key.lower() not in placeholders:
            return FoundKey(key, place, ignored)
        ignored.append(f"{place}: {'placeholder' if key else 'empty'}")
    return FoundKey(None, None, ignored)


def usable_credentials(chain: tuple[Credential, ...], kinds: Collection[Kind]) -> tuple[Credential, ...]:
    """Those of a chain that the way to a model lets in. Raises CredentialKindNeeded if none is left."""
    usable = tuple([credential for credential in chain if credential.kind in kinds])
    if not usable:
        (kind,) = kinds
        raise CredentialKindNeeded(credential_kind_facts(kind))
    return usable


def credential_chain(
    user: Credential | None, system_key: Credential | None, system_cookie: Credential | None
) -> tuple[Credential, ...]:
    """What to try, in order: the user's key, else the system's; the cookie follows for a 429."""
    chain = (user or system_key, system_cookie)
    return tuple(credential for credential in chain if credential is not None)
