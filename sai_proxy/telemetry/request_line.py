"""The way of a request's record into the log: its one line.

There is one for each request, so it is written as it is: as a log record with a dictionary of extra fields it would be
a sixth of what the proxy adds to a request.
"""

import logging
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Protocol

from sai_proxy.telemetry.host import host_name
from sai_proxy.telemetry.record import RequestRecord

LOGGER = "middlewares.request_record"
MESSAGE = "request"

logger = logging.getLogger(LOGGER)


class RequestLogRecord(logging.LogRecord):
    """A log record with a request's own in place of a message. told: what the client was told, for terminals alone.

    An ordinary record, with its fields as attributes, takes several times as long to be made and formatted.
    """

    def __init__(self, line: RequestRecord, level: int, created: float, told: str | None) -> None:
        self.__dict__.update(_PLAIN)
        self.line = line
        self.levelno, self.levelname = level, line.level or ""
        self.request_id = line.request_id
        self.created = created
        self.told = told


_PLAIN = vars(logging.makeLogRecord({"name": LOGGER, "msg": MESSAGE}))


class PutLines(Protocol):
    def __call__(self, lines: Sequence[bytes], *, late: bool) -> None:
        """Take lines that are ready, without their ends. late: they shall not wait for others."""
        ...


_put: PutLines | None = None


def put_lines_by(put: PutLines | None) -> None:
    """Give lines to `put` from now on; with None, make them log records. As such, each would pass through a dozen
    functions, and its request's record would stay until it is formatted."""
    global _put
    _put = put


def put_lines(lines: Sequence[bytes], *, late: bool) -> None:
    """Write lines that `log_request` has made. late: they shall not wait for others."""
    if lines and _put is not None:
        _put(lines, late=late)


def log_request(record: RequestRecord, level: int, ended: float) -> bytes | None:
    """Write the line of a request whose record is complete, or return it, for `put_lines` to write some at once.
    ended: when the request has, in Unix seconds."""
    if not logger.isEnabledFor(level):
        return None
    told = record.told
    record.forget_all_else()
    record.time = local_time(ended)
    record.level = logging.getLevelName(level)
    record.host = host_name()
    record.logger, record.message = LOGGER, MESSAGE
    if _put is not None:
        return record.as_json()
    logger.handle(RequestLogRecord(record, level, ended, told))
    return None


def local_time(created: float) -> str:
    """Unix seconds as ISO 8601, local time with its offset, to the millisecond."""
    seconds = int(created)
    begin, offset = _local_second(seconds)
    return f"{begin}.{int((created - seconds) * 1000):03d}{offset}"


@lru_cache(maxsize=4)
def _local_second(seconds: int) -> tuple[str, str]:
    text = datetime.fromtimestamp(seconds).astimezone().isoformat()
    return text[:19], text[19:]
