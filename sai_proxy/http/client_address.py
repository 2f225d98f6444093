"""Whose request it is, behind proxies that are known. Pure.

Source: RFC 7239 (`Forwarded`), and what proxies did before it (`X-Forwarded-For`). Each proxy appends whom it has heard
from, so that only what trusted ones have appended is believed: the last address that is none of theirs.
"""

import re
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Network = IPv4Network | IPv6Network

MAX_HOPS = 32
_FOR = re.compile(r'for\s*=\s*(?:"([^"]*)"|([^;,\s]*))', re.IGNORECASE)
_PORT = re.compile(r"^\[(?P<v6>[^\]]*)\](?::\d+)?$|^(?P<v4>[\d.]+)(?::\d+)?$")


def client_address(peer: str | None, headers: Mapping[str, str], trusted: Sequence[Network]) -> str | None:
    """peer: the address at the other end of the connection. trusted: networks of proxies whose word counts."""
    if peer is None or not trusted or not _is_in(_address(peer), trusted):
        return peer
    known = peer
    for hop in reversed(_hops(headers)[-MAX_HOPS:]):
        address = _address(hop)
        if address is None:  # `unknown`, or somebody's invention
            return known
        known = str(address)
        if not _is_in(address, trusted):
            return known
    return known


def _hops(headers: Mapping[str, str]) -> list[str]:
    if "Forwarded" in headers:
        return [quoted or bare for quoted, bare in _FOR.findall(headers["Forwarded"])]
    return [hop.strip() for hop in headers.get("X-Forwarded-For", "").split(",") if hop.strip()]


def _address(text: str) -> IPv4Address | IPv6Address | None:
    match = _PORT.match(text)
    try:
        return ip_address((match["v6"] or match["v4"]) if match else text)
    except ValueError:
        return None


def _is_in(address: IPv4Address | IPv6Address | None, networks: Sequence[Network]) -> bool:
    return address is not None and any(address in network for network in networks)
