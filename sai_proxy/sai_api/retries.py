"""When SAI is asked once more. SAI bills and runs what it is asked, so only what certainly did not reach
it is repeated, and the statuses that the operator names: never a timeout, nor an answer that broke off.
"""

from collections.abc import Callable

import aiohttp
from aiohttp_retry import JitterRetry

FIRST_BACKOFF_S = 0.25
MAX_BACKOFF_S = 8.0
MAX_RETRY_AFTER_S = 5
"""A longer Retry-After of SAI's is passed on to the client rather than slept here."""

BUDGET_SHARE = 0.2
BUDGET_RESERVE = 10.0


class RetryBudget:
    """Retries are a share of recent requests, so that an outage is not multiplied: each request adds
    BUDGET_SHARE of a retry, up to BUDGET_RESERVE of them."""

    def __init__(self) -> None:
        self._left = BUDGET_RESERVE

    def deposit(self) -> None:
        """A request was made."""
        self._left = min(self._left + BUDGET_SHARE, BUDGET_RESERVE)

    def withdraw(self) -> bool:
        """Whether one more retry is allowed; it counts as made."""
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Retries:
    """The decisions for one call. time_left: seconds until it must have its answer.

    count: retries so far.
    """

    def __init__(
        self, budget: RetryBudget, *, most: int, statuses: frozenset[int], time_left: Callable[[], float]
    ) -> None:
        self.count = 0
        self._budget = budget
        self._most = most
        self._statuses = statuses
        self._time_left = time_left
        self._replaced = False

    def after_failure(self, exc: Exception, *, stale: bool) -> float | None:
        """Seconds to wait before the next try, or None for no other. stale: whether a reused connection
        turned out to have been closed, which is no failure of SAI's and is mended at once, one time."""
        if stale and not self._replaced and isinstance(exc, aiohttp.ClientConnectionError):
            self._replaced = True
            self.count += 1  # but it is no load on SAI, which has not seen the first
            return 0.0 if self._time_left() > 0 else None
        return self._after_another() if _never_arrived(exc) else None

    def after_status(self, status: int, retry_after_s: int | None) -> float | None:
        """Seconds to wait before the next try, or None for no other. retry_after_s: SAI's wish."""
        if status not in self._statuses or (retry_after_s or 0) > MAX_RETRY_AFTER_S:
            return None
        return self._after_another(retry_after_s)

    def _after_another(self, wish_s: float | None = None) -> float | None:
        if self.count >= self._most:
            return None
        return self._admit(float(_BACKOFF.get_timeout(self.count + 1)) if wish_s is None else wish_s)

    def _admit(self, wait_s: float) -> float | None:
        if wait_s >= self._time_left() or not self._budget.withdraw():
            return None
        self.count += 1
        return wait_s


_BACKOFF = JitterRetry(start_timeout=FIRST_BACKOFF_S, max_timeout=MAX_BACKOFF_S, random_interval_size=FIRST_BACKOFF_S)


def _never_arrived(exc: Exception) -> bool:
    """Whether no connection could be made, for a reason that another try may not meet."""
    if isinstance(exc, aiohttp.ClientSSLError):
        return False
    return isinstance(exc, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
