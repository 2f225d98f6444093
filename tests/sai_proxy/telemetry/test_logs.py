import io
import json
import logging
import select
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sai_proxy.telemetry import logs
from sai_proxy.telemetry.logs import BackgroundWriter, StdoutHandler, configure_logging, current_request_id
from sai_proxy.telemetry.record import RequestRecord
from sai_proxy.telemetry.request_line import RequestLogRecord
from sai_proxy.telemetry.terminal import TerminalFormatter

Configure = Callable[..., Callable[[], bool]]
logger = logging.getLogger("sai_proxy.tests")


@pytest.fixture
def configure() -> Iterator[Configure]:
    """`configure_logging`, undone afterwards."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield configure_logging
    root.handlers[:], _ = before
    root.setLevel(before[1])
    for name in ("sai_proxy", "middlewares", "aiohttp_retry"):
        logging.getLogger(name).setLevel(logging.NOTSET)


def lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_line_is_json_with_the_request_id_and_the_extra_fields(
    configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    stop = configure()
    token = current_request_id.set("abc12345")
    logger.info("hello %s", "you", extra={"status": 200, "word": "ñ"})
    current_request_id.reset(token)
    logger.info("outside")
    stop()
    first, second = lines(capsys.readouterr().out)
    assert first["message"] == "hello you"
    assert (first["level"], first["logger"]) == ("INFO", "sai_proxy.tests")
    assert (first["request_id"], first["status"], first["word"]) == ("abc12345", 200, "ñ")
    assert str(first["time"])[10] == "T"
    assert "request_id" not in second


def test_odd_bytes_do_not_cost_the_line(configure: Configure, capsys: pytest.CaptureFixture[str]) -> None:
    stop = configure()
    logger.info("line", extra={"path": "/\udcff"})
    stop()
    assert lines(capsys.readouterr().out)[0]["path"] == "/\udcff"


def test_an_exception_is_one_line(configure: Configure, capsys: pytest.CaptureFixture[str]) -> None:
    stop = configure()
    logger.error("failed", exc_info=ValueError("boom"))
    stop()
    (line,) = lines(capsys.readouterr().out)
    assert "ValueError: boom" in str(line["exc_info"])


@pytest.mark.parametrize(("verbose", "count"), [(False, 1), (True, 2)])
def test_debug_lines_come_with_verbose_logging_alone(
    configure: Configure, capsys: pytest.CaptureFixture[str], verbose: bool, count: int
) -> None:
    stop = configure(verbose=verbose)
    logger.debug("details")
    logger.info("request")
    logging.getLogger("somebody.else").debug("never")
    stop()
    assert len(lines(capsys.readouterr().out)) == count


def test_a_log_file_gets_the_same_lines_and_is_rotated(
    configure: Configure, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (logs.MAX_FILE_BYTES, logs.BACKUPS) == (5 * 1024 * 1024, 3)
    monkeypatch.setattr(logs, "MAX_FILE_BYTES", 1000)
    file = tmp_path / "made" / "sai.log"
    stop = configure(log_file=str(file))
    for number in range(60):
        logger.info("line", extra={"number": number})
    stop()
    assert sorted(path.name for path in file.parent.iterdir()) == ["sai.log", "sai.log.1", "sai.log.2", "sai.log.3"]
    assert lines(file.read_text())[-1] == lines(capsys.readouterr().out)[-1]


def test_a_log_file_that_cannot_be_opened_is_a_warning(
    configure: Configure, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "a-file").write_text("")
    stop = configure(log_file=str(tmp_path / "a-file" / "sai.log"))
    logger.info("still serving")
    stop()
    warning, line = lines(capsys.readouterr().out)
    assert (warning["level"], warning["message"]) == ("WARNING", "no log file")
    assert line["message"] == "still serving"


def test_a_log_file_that_cannot_be_written_is_one_warning(
    configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    stop = configure(log_file="/dev/full")
    for _ in range(3):
        logger.info("line")
    stop()
    messages = [line["message"] for line in lines(capsys.readouterr().out)]
    assert messages.count("line") == 3
    assert messages.count("the log file cannot be written") == 1


def test_dropped_lines_are_told_at_the_end(configure: Configure, capsys: pytest.CaptureFixture[str]) -> None:
    stop = configure()
    (entry,) = logging.getLogger().handlers
    assert isinstance(entry, BackgroundWriter)
    entry.dropped = 3
    stop()
    (line,) = lines(capsys.readouterr().out)
    assert (line["level"], line["dropped"]) == ("WARNING", 3)


def record(text: str, level: int = logging.INFO) -> logging.LogRecord:
    return logging.makeLogRecord({"msg": text, "levelno": level})


def written_by(handler: BackgroundWriter, output: io.StringIO) -> str:
    handler.start()
    assert handler.stop()
    return output.getvalue()


def test_a_full_queue_drops_lines_and_counts_them() -> None:
    output = io.StringIO()
    handler = BackgroundWriter(StdoutHandler(output), max_records=2)
    for _ in range(5):
        handler.handle(record("line"))
    assert (written_by(handler, output), handler.dropped) == ("line\nline\n", 3)


def test_a_line_that_cannot_be_formatted_costs_no_other(
    configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    stop = configure()
    logger.info("before")
    logger.info("%d items", "three")
    logger.info("after")
    stop()
    messages = [line["message"] for line in lines(capsys.readouterr().out)]
    assert messages == ["before", "a log line could not be formatted", "after"]


def test_a_handlers_fault_does_not_end_all_logging() -> None:
    class Faulty(logging.Handler):
        def handle(self, _: logging.LogRecord) -> bool:
            raise RuntimeError("faulty")

    output = io.StringIO()
    handler = BackgroundWriter(StdoutHandler(output), [Faulty()])
    handler.start()
    for text in ("first", "second"):
        handler.handle(record(text))
        handler.flush()
    assert output.getvalue() == "first\nsecond\n"
    assert handler.stop()


@pytest.mark.parametrize(
    "put",
    [
        lambda handler: handler.handle(record("line", logging.ERROR)),
        lambda handler: handler.handle(RequestLogRecord(RequestRecord(path="/"), logging.INFO, 0, None)),
        lambda handler: handler.put_lines([b"line"], late=True),
    ],
    ids=["an error", "a request that has waited", "lines that have waited"],
)
def test_what_cannot_wait_is_written_at_once(
    monkeypatch: pytest.MonkeyPatch, put: Callable[[BackgroundWriter], object]
) -> None:
    monkeypatch.setattr(logs, "GATHER_S", 3600)
    written = threading.Event()

    class Output(io.StringIO):
        def write(self, text: str) -> int:
            written.set()
            return super().write(text)

    handler = BackgroundWriter(StdoutHandler(Output()))
    handler.start()
    put(handler)
    assert written.wait(10)
    assert handler.stop()


def test_a_stuck_output_holds_nobody_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "STOP_TIMEOUT_S", 0.1)
    stuck, freed = threading.Event(), threading.Event()

    class Stuck(io.StringIO):
        def write(self, text: str) -> int:
            stuck.set()
            freed.wait()
            return super().write(text)

    output = Stuck()
    handler = BackgroundWriter(StdoutHandler(output))
    handler.start()
    handler.handle(record("first"))
    stuck.wait()
    handler.handle(record("second"))
    handler.flush()
    assert not handler.stop()
    assert output.getvalue() == ""
    freed.set()
    assert handler.stop()
    assert output.getvalue() == "first\nsecond\n"


def test_nothing_waits_for_a_writer_that_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    handler = BackgroundWriter(StdoutHandler(io.StringIO()))
    handler.start()
    assert handler.stop()
    monkeypatch.setattr(logs, "STOP_TIMEOUT_S", 3600)
    flushing = threading.Thread(target=handler.flush, daemon=True)
    flushing.start()
    flushing.join(10)
    assert not flushing.is_alive()


def test_lines_that_go_where_others_write_go_in_pieces_that_stay_whole() -> None:
    """A pipe mixes what is longer than PIPE_BUF."""
    written: list[str] = []

    class Pipe(io.StringIO):
        def write(self, text: str) -> int:
            written.append(text)
            return len(text)

    handler = StdoutHandler(Pipe(), shared=True)
    records = [logging.makeLogRecord({"msg": f"{number} " + "ñ" * (number % 700)}) for number in range(200)]
    records.append(logging.makeLogRecord({"msg": "x" * 10_000}))
    handler.emit_all(records)
    assert "".join(written).splitlines() == [record.getMessage() for record in records]
    assert all(text.endswith("\n") for text in written)
    assert all(len(text.encode()) <= select.PIPE_BUF or text.count("\n") == 1 for text in written)
    assert len(written) < 100


def test_ready_lines_are_bounded_by_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "GATHER_S", 3600)
    output = io.StringIO()
    handler = BackgroundWriter(StdoutHandler(output), max_records=3)
    handler.put_lines([b"a", b"b"], late=False)
    handler.put_lines([b"c", b"d"], late=False)
    handler.put_lines([b"e", b"f"], late=False)
    handler.handle(record("line"))
    assert handler.dropped == 3
    handler.start()
    handler.flush()
    assert output.getvalue() == "a\nb\nc\nd\n"
    assert handler.stop()


def test_ready_lines_go_in_pieces_that_stay_whole_where_others_write() -> None:
    written: list[str] = []

    class Output(io.StringIO):
        def write(self, text: str) -> int:
            written.append(text)
            return len(text)

    letters = [bytes([letter]) * (select.PIPE_BUF // 2 - 10) for letter in b"abcde"]
    handler = BackgroundWriter(StdoutHandler(Output(), shared=True))
    handler.put_lines([*letters, "\N{LINE SEPARATOR}".encode()], late=True)
    handler.start()
    assert handler.stop()
    assert all(len(piece.encode()) <= select.PIPE_BUF and piece.endswith("\n") for piece in written)
    assert "".join(written).split("\n") == [*(line.decode() for line in letters), "\N{LINE SEPARATOR}", ""]


def test_a_file_is_rotated_between_the_lines_of_a_block(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "MAX_FILE_BYTES", 100)
    stop = configure(log_file=str(tmp_path / "x.log"))
    (entry,) = logging.getLogger().handlers
    assert isinstance(entry, BackgroundWriter)
    entry.put_lines([b"x" * 40] * 6, late=True)
    stop()
    assert all(path.stat().st_size <= 100 for path in tmp_path.iterdir())
    assert sum(path.read_text().count("x\n") for path in tmp_path.iterdir()) == 6


def test_what_a_client_wrote_neither_moves_the_cursor_nor_begins_a_line_at_a_terminal() -> None:
    record = RequestRecord(method="GET", path="/ñ\n12:00:00 200\x1b[31m\x00", status=404)
    text = TerminalFormatter(colour=False).format(RequestLogRecord(record, logging.INFO, 0, "No such model: \x1b]0;x"))
    assert "/ñ\\n12:00:00 200\\x1b[31m\\x00" in text
    assert "\x1b" not in text
    assert text.count("\n") == 1
