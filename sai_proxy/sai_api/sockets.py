"""What the sockets to SAI, and to clients, are set to."""

import socket
import ssl
from typing import Any

TCP_KEEPALIVE_S = 60


def make_socket(address: Any) -> socket.socket:
    """TCP keep-alive, since load balancers forget a connection on which SAI thinks for long."""
    family, kind, protocol, _, _ = address
    sock = socket.socket(family, kind, protocol)
    sock.setblocking(False)
    enable_tcp_keepalive(sock)
    return sock


def enable_tcp_keepalive(sock: Any) -> None:
    """Probe a silent peer every TCP_KEEPALIVE_S seconds, where the platform has such a setting."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL"):
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), TCP_KEEPALIVE_S)


def tls_setting(*, verify: bool, ca_file: str | None) -> ssl.SSLContext | bool:
    """What the connector takes: the platform's trust, that and another authority's, or (False) none."""
    if not verify:
        return False
    if ca_file is None:
        return True
    context = ssl.create_default_context()
    context.load_verify_locations(ca_file)
    return context
