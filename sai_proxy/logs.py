"""Logging: JSON lines to standard output and, if asked for, to a rotated file.

Records go through a bounded queue to a thread of their own, so that a blocked terminal or a full
disk costs lines, never the event loop's time. The thread writes what has gathered in one go: woken for
each line, it would cost a loaded server a sixth of its CPU.
"""

import contextlib
import json
import logging
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from datetime import datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from pythonjsonlogger.core import RESERVED_ATTRS, LogData
from pythonjsonlogger.msgspec import MsgspecFormatter

MAX_FILE_BYTES = 5 * 1024 * 1024
BACKUPS = 3
MAX_QUEUED = 10_000
GATHER_S = 0.05
"""How long a line may wait for others to be written with it."""

STOP_TIMEOUT_S = 2.0
HOST = socket.gethostname()
"""Tells replicas apart: in a Swarm, docker-stack.yml names them by their slot."""

_RESERVED = frozenset(RESERVED_ATTRS)

current_request_id: ContextVar[str | None] = ContextVar("current_request_id", default=None)
"""Written by the request-id layer; every record made while a request is handled carries it."""


class RequestIdFilter(logging.Filter):
    """Puts the current request's id on the record. It belongs on the handler that queues:
    the writing thread has another context."""

    def filter(self, record: logging.LogRecord) -> bool:
        request_id = current_request_id.get()
        if request_id is not None and not hasattr(record, "request_id"):
            record.request_id = request_id
        return True


class LineFormatter(MsgspecFormatter):
    """One JSON object a line: `time` (ISO 8601, local time with offset), `level`, `host`, `logger`,
    `message`, then the record's extra fields. The base class would do the same in several passes,
    which at a line a request is a tenth of the request's cost."""

    def __init__(self) -> None:
        super().__init__(["message"])

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "host": HOST,
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


class StdoutHandler(logging.StreamHandler[Any]):
    """A closed standard output is no reason to stop serving, nor to fill standard error."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        pass

    def emit_all(self, records: Sequence[logging.LogRecord]) -> None:
        """Like `emit` for each, in one write."""
        with contextlib.suppress(OSError, ValueError):
            self.stream.write("".join(f"{self.format(record)}\n" for record in records))
            self.flush()


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


class BackgroundWriter(logging.Handler):
    """Queues records for a thread that writes them, and counts those for which there was no room.

    If the output is stuck, neither logging nor the process' end waits for it.
    """

    def __init__(
        self, stdout: StdoutHandler, others: Sequence[logging.Handler] = (), max_records: int = MAX_QUEUED
    ) -> None:
        super().__init__()
        self.dropped = 0
        self._records: deque[logging.LogRecord] = deque()
        self._max_records = max_records
        self._stdout = stdout
        self._others = others
        self._filled = threading.Event()
        self._stopping = threading.Event()
        self._writing = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="log writer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Write what is queued, if that can be done soon."""
        self._stopping.set()
        self._filled.set()
        self._thread.join(STOP_TIMEOUT_S)

    def emit(self, record: logging.LogRecord) -> None:
        if len(self._records) >= self._max_records:
            self.dropped += 1
            return
        self._records.append(record)
        if not self._filled.is_set():  # setting it takes a lock and a system call
            self._filled.set()

    def flush(self) -> None:
        """Write what is queued now, unless the output is stuck."""
        if self._writing.acquire(timeout=STOP_TIMEOUT_S):
            try:
                self._write()
            finally:
                self._writing.release()

    def _run(self) -> None:
        while self._records or not self._stopping.is_set():
            self._filled.wait()
            self._stopping.wait(GATHER_S)
            self._filled.clear()  # before writing, so that a line from now on wakes this thread again
            with self._writing:
                self._write()

    def _write(self) -> None:
        records = [self._records.popleft() for _ in range(len(self._records))]
        if not records:
            return
        self._stdout.emit_all(records)
        for handler in self._others:
            for record in records:
                handler.handle(record)


def configure_logging(*, verbose: bool = False, log_file: str | None = None) -> Callable[[], None]:
    """Set up the root logger, and return what flushes and ends it."""
    _note_nothing_unused()
    stdout = StdoutHandler(sys.stdout)
    others: list[logging.Handler] = []
    failure: OSError | None = None
    if log_file:
        try:
            others.append(FileHandler(log_file, fallback=stdout))
        except OSError as exc:
            failure = exc
    formatter = LineFormatter()
    for handler in (stdout, *others):
        handler.setFormatter(formatter)

    writer = BackgroundWriter(stdout, others)
    writer.addFilter(RequestIdFilter())
    root = logging.getLogger()
    root.handlers[:] = [writer]
    root.setLevel(logging.INFO)
    for ours in ("sai_proxy", "middlewares"):
        logging.getLogger(ours).setLevel(logging.DEBUG if verbose else logging.INFO)
    logging.getLogger("aiohttp_retry").setLevel(logging.WARNING)  # its steps are in our own lines

    writer.start()
    if failure is not None:
        writer.handle(_warning("no log file", log_file=log_file, problem=failure.strerror))

    def stop() -> None:
        writer.stop()
        if writer.dropped:
            stdout.handle(_warning("log lines were dropped: the output was too slow", dropped=writer.dropped))
        for handler in (stdout, *others):
            with contextlib.suppress(OSError):  # a full disk says so once more
                handler.close()

    return stop


def _note_nothing_unused() -> None:
    """Records shall not look for their caller, thread and process: no line shows them. Source:
    "Optimization" in Python's logging HOWTO."""
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


def _warning(message: str, **extra: object) -> logging.LogRecord:
    return logging.makeLogRecord(
        {"name": __name__, "levelno": logging.WARNING, "levelname": "WARNING", "msg": message, **extra}
    )
