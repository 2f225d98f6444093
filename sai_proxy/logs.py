"""Logging: JSON lines to standard output and, if asked for, to a rotated file.

Records go through a bounded queue to a thread of their own, so that a blocked terminal or a full
disk costs lines, never the event loop's time.
"""

import contextlib
import json
import logging
import queue
import sys
import threading
from collections.abc import Callable
from contextvars import ContextVar
from datetime import datetime
from logging.handlers import QueueHandler, QueueListener, RotatingFileHandler
from pathlib import Path
from typing import Any

from pythonjsonlogger.core import RESERVED_ATTRS, LogData
from pythonjsonlogger.msgspec import MsgspecFormatter

MAX_FILE_BYTES = 5 * 1024 * 1024
BACKUPS = 3
MAX_QUEUED = 10_000
STOP_TIMEOUT_S = 2.0
_RESERVED = frozenset(RESERVED_ATTRS)

current_request_id: ContextVar[str | None] = ContextVar("current_request_id", default=None)
"""Written by the request-id layer; every record made while a request is handled carries it."""


class RequestIdFilter(logging.Filter):
    """Puts the current request's id on the record. It belongs on the queue's handler: the writing
    thread has another context."""

    def filter(self, record: logging.LogRecord) -> bool:
        request_id = current_request_id.get()
        if request_id is not None and not hasattr(record, "request_id"):
            record.request_id = request_id
        return True


class LineFormatter(MsgspecFormatter):
    """One JSON object a line: `time` (ISO 8601, local time with offset), `level`, `logger`,
    `message`, then the record's extra fields. The base class would do the same in several passes,
    which at a line a request is a tenth of the request's cost."""

    def __init__(self) -> None:
        super().__init__(["message"])

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update((name, value) for name, value in vars(record).items() if name not in _RESERVED)
        if record.exc_info:
            line["exc_info"] = self.formatException(record.exc_info)
        return self.jsonify_log_record(line)

    def jsonify_log_record(self, log_data: LogData) -> str:
        try:
            return super().jsonify_log_record(log_data)
        except UnicodeEncodeError:  # a lone surrogate, from odd bytes in a URL
            return json.dumps(log_data, default=str)


class BoundedQueueHandler(QueueHandler):
    """Hands records over as they are, and counts those for which there was no room."""

    def __init__(self, records: "queue.Queue[Any]") -> None:
        super().__init__(records)
        self.dropped = 0

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            self.dropped += 1


class StdoutHandler(logging.StreamHandler[Any]):
    """A closed standard output is no reason to stop serving, nor to fill standard error."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        pass


class FileHandler(RotatingFileHandler):
    """A rotated file. The first line that cannot be written is a warning, the rest are lost."""

    def __init__(self, path: str, fallback: logging.Handler) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        super().__init__(path, maxBytes=MAX_FILE_BYTES, backupCount=BACKUPS, encoding="utf-8")
        self._fallback = fallback
        self._warned = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        if not self._warned:
            self._warned = True
            self._fallback.handle(_warning("the log file cannot be written", log_file=self.baseFilename))


class LogWriter(QueueListener):
    """The writing thread, which does not hold the process back if its output is stuck."""

    def stop(self) -> None:
        thread: threading.Thread | None = self._thread
        if thread is None:
            return
        try:
            self.enqueue_sentinel()
        except queue.Full:
            return
        thread.join(STOP_TIMEOUT_S)
        self._thread = None


def configure_logging(*, verbose: bool = False, log_file: str | None = None) -> Callable[[], None]:
    """Set up the root logger, and return what flushes and ends it."""
    stdout = StdoutHandler(sys.stdout)
    handlers: list[logging.Handler] = [stdout]
    failure: OSError | None = None
    if log_file:
        try:
            handlers.append(FileHandler(log_file, fallback=stdout))
        except OSError as exc:
            failure = exc
    formatter = LineFormatter()
    for handler in handlers:
        handler.setFormatter(formatter)

    records: queue.Queue[Any] = queue.Queue(MAX_QUEUED)
    entry = BoundedQueueHandler(records)
    entry.addFilter(RequestIdFilter())
    root = logging.getLogger()
    root.handlers[:] = [entry]
    root.setLevel(logging.INFO)
    for ours in ("sai_proxy", "middlewares"):
        logging.getLogger(ours).setLevel(logging.DEBUG if verbose else logging.INFO)
    logging.getLogger("aiohttp_retry").setLevel(logging.WARNING)  # its steps are in our own lines

    writer = LogWriter(records, *handlers)
    writer.start()
    if failure is not None:
        entry.handle(_warning("no log file", log_file=log_file, problem=failure.strerror))

    def stop() -> None:
        writer.stop()
        if entry.dropped:
            stdout.handle(_warning("log lines were dropped: the output was too slow", dropped=entry.dropped))
        for handler in handlers:
            with contextlib.suppress(OSError):  # a full disk says so once more
                handler.close()

    return stop


def _warning(message: str, **extra: object) -> logging.LogRecord:
    return logging.makeLogRecord(
        {"name": __name__, "levelno": logging.WARNING, "levelname": "WARNING", "msg": message, **extra}
    )
