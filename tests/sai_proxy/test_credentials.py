import pytest

from sai_proxy.credentials import Credential, FoundKey, credential_chain, first_key, make_credential
from sai_proxy.errors import CredentialUnusable

KEY = Credential("key", "system", "k")
COOKIE = Credential("cookie", "system", "c")
USER = Credential("key", "user", "u")


@pytest.mark.parametrize(
    ("text", "cookie", "header"),
    [
        ("abc+/DEF123", False, ("X-Api-Key", "abc+/DEF123")),
        (".AspNetCore.Cookies=CfDJ8", False, ("Cookie", ".AspNetCore.Cookies=CfDJ8")),
        ("CfDJ8abc", True, ("Cookie", ".AspNetCore.Cookies=CfDJ8abc")),
        ("CfDJ8abc==", True, ("Cookie", ".AspNetCore.Cookies=CfDJ8abc==")),
        (".AspNetCore.Cookies=a; other=b", True, ("Cookie", ".AspNetCore.Cookies=a; other=b")),
    ],
)
def test_a_pasted_text_becomes_the_one_header_that_carries_it(text: str, cookie: bool, header: tuple[str, str]) -> None:
    assert make_credential(text, "user", cookie=cookie).header == header


@pytest.mark.parametrize("text", ["a\r\nX: 1", "a\x00", "a\x7f", "clé", "\ud800", "k" * 8193, "Cookies=" + "c" * 32768])
def test_text_that_cannot_be_a_header_is_refused(text: str) -> None:
    with pytest.raises(CredentialUnusable):
        make_credential(text, "user")


def test_a_long_session_cookie_is_good() -> None:
    assert make_credential(".AspNetCore.Cookies=" + "c" * 30_000, "user").kind == "cookie"


def test_a_value_stays_out_of_the_representation() -> None:
    assert "s3cret" not in repr(make_credential("s3cret", "user"))


@pytest.mark.parametrize(
    ("credential", "text"),
    [
        (Credential("key", "user", 'a"b\\c'), 'x a"b\\c y a\\"b\\\\c z'),
        (Credential("cookie", "user", ".AspNetCore.Cookies=v1; other=v2"), ".AspNetCore.Cookies=v1; other=v2 v1 v2"),
    ],
)
def test_a_credential_is_masked_in_every_form(credential: Credential, text: str) -> None:
    masked = credential.mask(text)
    assert "***" in masked
    assert not {"v1", "v2", 'a"b', 'a\\"b'} & set(masked.replace("=", " ").replace(";", " ").split())


@pytest.mark.parametrize(
    ("candidates", "found"),
    [
        (["", "  "], FoundKey(None, None, ["0: empty", "1: empty"])),
        ([" key\r\n", "later"], FoundKey("key", "0", [])),
        (["raspberry", "RaspBerry", "key"], FoundKey("key", "2", ["0: placeholder", "1: placeholder"])),
        (["raspberry"], FoundKey(None, None, ["0: placeholder"])),
    ],
)
def test_the_first_key_is_the_first_that_is_one(candidates: list[str], found: FoundKey) -> None:
    places = [(str(number), text) for number, text in enumerate(candidates)]
    assert first_key(places, frozenset({"raspberry"})) == found


@pytest.mark.parametrize(
    ("user", "key", "cookie", "chain"),
    [
        (USER, KEY, COOKIE, (USER, COOKIE)),
        (USER, KEY, None, (USER,)),
        (None, KEY, COOKIE, (KEY, COOKIE)),
        (None, None, COOKIE, (COOKIE,)),
        (None, KEY, None, (KEY,)),
    ],
)
def test_the_chain_goes_from_the_users_key_or_the_systems_to_the_cookie(
    user: Credential | None, key: Credential | None, cookie: Credential | None, chain: tuple[Credential, ...]
) -> None:
    assert credential_chain(user, key, cookie) == chain
