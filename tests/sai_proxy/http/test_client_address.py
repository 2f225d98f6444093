from ipaddress import ip_network

import pytest

from sai_proxy.http.client_address import client_address

TRUSTED = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


@pytest.mark.parametrize(
    ("peer", "headers", "expected"),
    [
        ("10.0.0.1", {"X-Forwarded-For": "203.0.113.7"}, "203.0.113.7"),
        ("10.0.0.1", {"X-Forwarded-For": "203.0.113.7, 10.0.0.2"}, "203.0.113.7"),
        ("10.0.0.1", {"X-Forwarded-For": "1.1.1.1, 203.0.113.7, 10.0.0.2"}, "203.0.113.7"),
        ("10.0.0.1", {"X-Forwarded-For": "203.0.113.7:5000"}, "203.0.113.7"),
        ("10.0.0.1", {"Forwarded": 'for=203.0.113.7;proto=https, for="[fd00::1]:80"'}, "203.0.113.7"),
        ("10.0.0.1", {"Forwarded": 'for="[2001:db8::1]:4711"'}, "2001:db8::1"),
        ("10.0.0.1", {"Forwarded": "for=203.0.113.7", "X-Forwarded-For": "9.9.9.9"}, "203.0.113.7"),
        ("fd00::5", {"X-Forwarded-For": "203.0.113.7"}, "203.0.113.7"),
        ("10.0.0.1", {"X-Forwarded-For": "10.0.0.9"}, "10.0.0.9"),
        ("10.0.0.1", {"X-Forwarded-For": "someone, 10.0.0.2"}, "10.0.0.2"),
        ("10.0.0.1", {"Forwarded": "for=unknown"}, "10.0.0.1"),
        ("10.0.0.1", {"Forwarded": "by=10.0.0.3"}, "10.0.0.1"),
        ("10.0.0.1", {}, "10.0.0.1"),
        ("203.0.113.9", {"X-Forwarded-For": "1.1.1.1"}, "203.0.113.9"),
        (None, {"X-Forwarded-For": "1.1.1.1"}, None),
    ],
)
def test_only_what_trusted_proxies_say_counts(peer: str | None, headers: dict[str, str], expected: str | None) -> None:
    assert client_address(peer, headers, TRUSTED) == expected


def test_without_trusted_proxies_nobody_is_believed() -> None:
    assert client_address("10.0.0.1", {"X-Forwarded-For": "1.1.1.1"}, ()) == "10.0.0.1"


def test_a_long_chain_is_not_followed_for_ever() -> None:
    chain = ", ".join(["1.1.1.1", *["10.0.0.2"] * 1_000])
    assert client_address("10.0.0.1", {"X-Forwarded-For": chain}, TRUSTED) == "10.0.0.2"
