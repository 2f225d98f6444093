"""What the sockets to SAI, and to clients, are set to, and how they are read."""

import fcntl
import socket
import ssl
import sys
import termios
from typing import Any

from aiohttp.base_protocol import BaseProtocol

TCP_KEEPALIVE_S = 60
MAX_UNSENT_BYTES = 128 * 1024


class ResumesIfPaused(BaseProtocol):
    """aiohttp's readers want to go on after each read, and have the parser look at what it has kept, of which there is
    none as long as reading was never paused. Once it was, the parser may keep something any time: it stops in the body
    that comes next, which may be after reading has been resumed.

    has_paused: since this parser began.
    """

    has_paused = False

    def pause_reading(self) -> None:
        self.has_paused = True
        super().pause_reading()

    def resume_reading(self, resume_parser: bool = True) -> None:
        if self.has_paused:
            super().resume_reading(resume_parser)


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


def keep_little_in_the_kernel(sock: Any) -> None:
    """Of what is written, no more than MAX_UNSENT_BYTES that the peer has no room for: the rest waits where it
    is counted, instead of in some MiB of the kernel's."""
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, MAX_UNSENT_BYTES)


def bytes_on_the_way(sock: Any) -> int:
    """What was written to a socket and is not acknowledged by its peer; 0 where the platform does not tell.
    Source: tcp(7), SIOCOUTQ."""
    if sock is None or not hasattr(termios, "TIOCOUTQ"):
        return 0
    try:
        answer = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4))
    except OSError:
        return 0
    return int.from_bytes(answer, sys.byteorder)


def tls_setting(*, verify: bool, ca_file: str | None) -> ssl.SSLContext | bool:
    """What the connector takes: the platform's trust, that and another authority's, or (False) none."""
    if not verify:
        return False
    if ca_file is None:
        return True
    context = ssl.create_default_context()
    context.load_verify_locations(ca_file)
    return context
