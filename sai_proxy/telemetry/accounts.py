"""The accounts of requests that have ended: their log lines, their metrics, and what the home page shows of them.

They are made for many requests in a row, a moment later. Between one request's work and the next one's they would take
three times as long, since neither their code nor their data is in the processor's caches then.
"""

import asyncio
import logging
import time
from time import monotonic
from typing import Any

from sai_proxy.telemetry.metrics import Metrics
from sai_proxy.telemetry.recent import Recent
from sai_proxy.telemetry.record import PROBES, RequestRecord
from sai_proxy.telemetry.request_line import log_request, put_lines

logger = logging.getLogger(__name__)

GATHER_S = 0.05
"""How long a request may wait for others to be accounted for with it."""

MOST_WAITING = 100
"""More in a row would gain little, and hold up whoever comes meanwhile: each takes some microseconds."""


class Accounts:
    """What is told of requests: of all that have ended, whoever reads the metrics or the figures. Who ends the process
    calls `settle`."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.metrics.numbers.before_reading = self.settle
        self._recent = Recent()
        self._waiting: list[RequestRecord] = []
        self._timer: asyncio.TimerHandle | None = None

    def add(self, record: RequestRecord) -> None:
        """A request has ended, of which nobody will learn any more."""
        self._waiting.append(record)
        if len(self._waiting) >= MOST_WAITING:
            self.settle()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(GATHER_S, self._settle_late)

    def _settle_late(self) -> None:
        self.settle(late=True)

    def settle(self, *, late: bool = False) -> None:
        """Account for those that wait. late: their lines have waited for others already."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting, self._waiting = self._waiting, []
        epoch = time.time() - monotonic()
        lines = []
        for record in waiting:
            try:
                line = self._account(record, epoch + record.ended)
            except Exception:  # one that cannot be told does not take the others with it
                logger.exception("a request could not be accounted for", extra={"request_id": record.request_id})
                continue
            if line is not None:
                lines.append(line)
        put_lines(lines, late=late)

    def figures(self, in_flight: int) -> dict[str, Any]:
        """What the home page shows; see `Recent.figures`."""
        self.settle()
        return self._recent.figures(in_flight)

    def _account(self, record: RequestRecord, ended: float) -> bytes | None:
        """Its line, if that is still to be written. Health probes and scrapes are told at DEBUG: eight replicas' would
        bury the rest. ended: in Unix seconds."""
        self.metrics.observe(record)
        record.complete()
        if record.admitted:
            self._recent.add(record, ended)
        probe = record.status == 200 and record.path is not None and record.path.startswith(PROBES)
        return log_request(record, logging.DEBUG if probe else logging.INFO, ended)
