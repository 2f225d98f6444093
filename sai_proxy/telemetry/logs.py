"""Logging: JSON lines to standard output and, if asked for, to a rotated file.

Records go through a bounded queue to a thread of their own, so that a blocked terminal or a full
disk costs lines, never the event loop's time. The thread writes what has gathered in one go: woken for
each line, it would cost a loaded server a sixth of its CPU.
"""

import contextlib
import io
import json
import logging
import os
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, Literal

from pythonjsonlogger.core import RESERVED_ATTRS, LogData
from pythonjsonlogger.msgspec import MsgspecFormatter

from sai_proxy.telemetry.host import host_name
from sai_proxy.telemetry.request_line import RequestLogRecord, local_time, put_lines_by
from sai_proxy.telemetry.terminal import TerminalFormatter

LogFormat = Literal["auto", "text", "json"]
"""`auto`: text if standard output is a terminal."""

MAX_FILE_BYTES = 5 * 1024 * 1024
BACKUPS = 3
MAX_QUEUED = 10_000
GATHER_S = 0.05
"""How long a line may wait for others to be written with it."""

STOP_TIMEOUT_S = 2.0

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


class _ReadyLine(logging.LogRecord):
    """A line, as a record for handlers that take nothing else."""

    def __init__(self, line: str) -> None:
        self.__dict__.update(vars(logging.makeLogRecord({})))
        self.line = line


class LineFormatter(MsgspecFormatter):
    """One JSON object a line: `time` (ISO 8601, local time with offset), `level`, `host`, `logger`,
    `message`, then the record's extra fields. The base class would do the same in several passes,
    which at a line a request is a tenth of the request's cost."""

    def __init__(self) -> None:
        super().__init__(["message"])

    def format(self, record: logging.LogRecord) -> str:
        if isinstance(record, RequestLogRecord):
            return record.line.as_json().decode()
        if isinstance(record, _ReadyLine):
            return record.line
        line: dict[str, Any] = {
            "time": local_time(record.created),
            "level": record.levelname,
            "host": host_name(),
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
    """A closed standard output is no reason to stop serving, nor to fill standard error. shared: whether other
    processes write to it, too."""

    def __init__(self, stream: Any, *, shared: bool = False) -> None:
        super().__init__(stream)
        self._shared = shared

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        pass

    def emit_all(self, records: Sequence[logging.LogRecord | bytes]) -> None:
        """Like `emit` for each, or for the lines that are ready, in one write; where others write, in as many as a pipe
        keeps whole."""
        if self._shared:
            records = _one_by_one(records)
        lines = [f"{r.decode() if isinstance(r, bytes) else self._line(r)}\n" for r in records]
        with contextlib.suppress(OSError, ValueError):
            for piece in _whole_writes(lines) if self._shared else ["".join(lines)]:
                self.stream.write(piece)
                self.stream.flush()

    def flush(self) -> None:
        """Nothing is left to flush; and the interpreter's end, which asks, would wait for a stuck output."""

    def _line(self, record: logging.LogRecord) -> str:
        try:
            return self.format(record)
        except Exception as exc:  # somebody's arguments do not fit their message
            return self.format(_warning("a log line could not be formatted", text=str(record.msg), problem=repr(exc)))


def _one_by_one(records: Sequence[logging.LogRecord | bytes]) -> list[logging.LogRecord | bytes]:
    """The same, with each line that is ready for itself."""
    return [one for r in records for one in (r.split(b"\n") if isinstance(r, bytes) else (r,))]


def _whole_writes(lines: Sequence[str]) -> Iterator[str]:
    """The lines, as many at once as a pipe does not mix with what others write. Source: pipe(7), PIPE_BUF. A line
    longer than that is written alone."""
    piece: list[str] = []
    size = 0
    for line in lines:
        length = len(line.encode(errors="backslashreplace"))
        if piece and size + length > select.PIPE_BUF:
            yield "".join(piece)
            piece, size = [], 0
        piece.append(line)
        size += length
    if piece:
        yield "".join(piece)


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
    """Queues records for a thread that writes them, and counts the lines for which there was no room.

    If the output is stuck, neither logging nor the process' end waits for it.
    """

    def __init__(
        self, stdout: StdoutHandler, others: Sequence[logging.Handler] = (), max_records: int = MAX_QUEUED
    ) -> None:
        super().__init__()
        self.dropped = 0
        self._records: deque[logging.LogRecord | bytes] = deque()
        self._max_records = max_records
        self._queued = self._taken = 0  # lines, since the beginning
        self._stdout = stdout
        self._others = others
        self._filled = threading.Event()
        self._hurry = threading.Event()
        self._idle = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="log writer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> bool:
        """Write what is queued, if that can be done soon; whether it could."""
        self._stopping = True
        self._hurry.set()
        self._filled.set()
        self._thread.join(STOP_TIMEOUT_S)
        return not self._thread.is_alive()

    def emit(self, record: logging.LogRecord) -> None:
        self._put(record, 1)
        # After an error the process may not live for long; a request's line has been waited with already.
        if record.levelno >= logging.ERROR or isinstance(record, RequestLogRecord):
            self._hurry.set()

    def put_lines(self, lines: Sequence[bytes], *, late: bool) -> None:
        """Queue lines that are ready. late: to be written at once."""
        assert self.lock is not None
        with self.lock:
            self._put(b"\n".join(lines), len(lines))
        if late:
            self._hurry.set()

    def _put(self, record: logging.LogRecord | bytes, lines: int) -> None:
        if self._queued - self._taken >= self._max_records:
            self.dropped += lines
            return
        self._queued += lines
        self._records.append(record)
        if not self._filled.is_set():  # setting it takes a lock and a system call
            self._filled.set()

    def flush(self) -> None:
        """Wait until what is queued has been written, unless the output is stuck."""
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while self._thread.is_alive():  # at the interpreter's end, which flushes too, it is not
            self._idle.clear()
            self._hurry.set()
            self._filled.set()
            if not self._idle.wait(max(deadline - time.monotonic(), 0)) or not self._records:
                return

    def _run(self) -> None:
        while self._records or not self._stopping:
            self._filled.wait()
            self._hurry.wait(GATHER_S)
            self._hurry.clear()
            self._filled.clear()  # before writing, so that a line from now on wakes this thread again
            records = [self._records.popleft() for _ in range(len(self._records))]
            self._taken += sum(r.count(b"\n") + 1 if isinstance(r, bytes) else 1 for r in records)
            with contextlib.suppress(Exception):  # a handler's fault must not end all logging
                self._write(records)
            del records  # their exceptions hold what they went through
            if not self._records:
                self._idle.set()

    def _write(self, records: Sequence[logging.LogRecord | bytes]) -> None:
        if not records:
            return
        self._stdout.emit_all(records)
        for handler in self._others:
            for record in _one_by_one(records):
                handler.handle(_ReadyLine(record.decode()) if isinstance(record, bytes) else record)


def configure_logging(
    *, verbose: bool = False, log_file: str | None = None, log_format: LogFormat = "json", shared: bool = False
) -> Callable[[], bool]:
    """Set up the root logger, and return what flushes and ends it, and says whether that could be done:
    a stuck output would also hold the interpreter's end. shared: standard output is other processes', too."""
    _note_nothing_unused()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    stdout = StdoutHandler(sys.stdout, shared=shared)
    others: list[logging.Handler] = []
    failure: OSError | None = None
    if log_file:
        try:
            others.append(FileHandler(log_file, fallback=stdout))
        except OSError as exc:
            failure = exc
    for handler in (stdout, *others):
        handler.setFormatter(LineFormatter())
    if shows_text(log_format):
        stdout.setFormatter(TerminalFormatter(colour="NO_COLOR" not in os.environ and sys.stdout.isatty()))

    writer = BackgroundWriter(stdout, others)
    writer.addFilter(RequestIdFilter())
    root = logging.getLogger()
    root.handlers[:] = [writer]
    root.setLevel(logging.INFO)
    for ours in ("sai_proxy", "middlewares"):
        logging.getLogger(ours).setLevel(logging.DEBUG if verbose else logging.INFO)
    logging.getLogger("aiohttp_retry").setLevel(logging.WARNING)  # its steps are in our own lines

    put_lines_by(None if shows_text(log_format) else writer.put_lines)
    writer.start()
    if failure is not None:
        writer.handle(_warning("no log file", log_file=log_file, problem=failure.strerror))

    def stop() -> bool:
        put_lines_by(None)
        if not writer.stop():
            return False
        if writer.dropped:
            stdout.handle(_warning("log lines were dropped: the output was too slow", dropped=writer.dropped))
        for handler in (stdout, *others):
            with contextlib.suppress(OSError):  # a full disk says so once more
                handler.close()
        _forget_unwritten()
        return True

    return stop


def shows_text(log_format: LogFormat) -> bool:
    """Whether standard output gets lines for people."""
    return log_format == "text" or (log_format == "auto" and sys.stdout is not None and sys.stdout.isatty())


def _forget_unwritten() -> None:
    """What a closed output did not take must not fail at the interpreter's end. Source: "Note on SIGPIPE" in the
    documentation of Python's `signal`."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError), Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _note_nothing_unused() -> None:
    """Records shall not look for their caller, thread and process: no line shows them. Source:
    "Optimization" in Python's logging HOWTO."""
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


def _warning(message: str, **extra: object) -> logging.LogRecord:
    return logging.makeLogRecord(
        {"name": __name__, "levelno": logging.WARNING, "levelname": "WARNING", "msg": message, **extra}
    )
