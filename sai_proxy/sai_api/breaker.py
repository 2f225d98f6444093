"""A circuit breaker: where SAI has failed again and again without one success, it is left alone for a while.

By hand: the libraries count calls that raise, while here a refusal is a sign of life and a client that
leaves says nothing.
"""

import math
from collections.abc import Callable

from sai_proxy.errors import ProxyError, UpstreamError, UpstreamTlsError, UpstreamUnavailable

FAILURES = 10
"""In a row."""

FIRST_PAUSE_S = 5.0
MAX_PAUSE_S = 30.0


class CircuitBreaker:
    """One for each target of SAI's, so that a broken template does not close the others. A call stands
    in a `with` of it, which raises UpstreamUnavailable while SAI is left alone; after that, one call at
    a time may find out how SAI is.

    now: a monotonic clock, in seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._failures = 0
        self._pause_s = 0.0
        self._open_until: float | None = None
        self._probing = False

    @property
    def is_open(self) -> bool:
        return self._open_until is not None

    def __enter__(self) -> None:
        if self._open_until is None:
            return
        left_s = self._open_until - self._now()
        if left_s > 0 or self._probing:
            raise UpstreamUnavailable(retry_after_s=max(math.ceil(left_s), 1), detail="the circuit is open")
        self._probing = True

    def __exit__(self, kind: object, exc: BaseException | None, trace: object) -> None:
        if isinstance(exc, UpstreamError) and not isinstance(exc, UpstreamTlsError):
            self._fail()
        elif exc is None or isinstance(exc, ProxyError):  # a refusal is an answer, too
            self._failures, self._pause_s, self._open_until, self._probing = 0, 0.0, None, False
        else:
            self._probing = False  # the client has left, and nothing is known

    def _fail(self) -> None:
        self._failures += 1
        if self._probing or (self._open_until is None and self._failures >= FAILURES):
            self._pause_s = min(max(self._pause_s * 2, FIRST_PAUSE_S), MAX_PAUSE_S)
            self._open_until = self._now() + self._pause_s
            self._probing = False
