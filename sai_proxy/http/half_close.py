"""Clients that close their sending side when they have asked, and wait for the answer all the same.

Until something is sent to it, such a client looks just like one that has left. So it is sent something
that it may ignore, some times over: the kernel of one that has left answers with a reset, which ends
the connection and what was asked. Source: RFC 9110, 15.2 (interim responses), RFC 9293, 3.6.
"""

from collections.abc import Callable

from aiohttp import web

INTERIM_RESPONSE = b"HTTP/1.1 102 Processing\r\n\r\n"
PROBE_PAUSES_S = (0.0, 0.1, 0.4, 1.0)
"""The first probe is what a reset answers; the next finds the connection reset."""

LATER_PROBES_S = 15.0
"""For a client that leaves later than that."""


class HalfCloseProbe:
    """For a server's protocol: what to send to a half-closed client while a stream is running.

    send: None while no stream is.
    """

    send: Callable[[], None] | None = None


def on_half_close(request: web.Request, send: Callable[[], None] | None) -> None:
    """Set what finds out whether the client of this stream is still there."""
    protocol = request.protocol
    if isinstance(protocol, HalfCloseProbe):
        protocol.send = send
