import json
import logging
from datetime import datetime

import pytest

from sai_proxy.telemetry import request_line
from sai_proxy.telemetry.logs import LineFormatter
from sai_proxy.telemetry.record import RequestRecord
from sai_proxy.telemetry.request_line import local_time, log_request


def written(caplog: pytest.LogCaptureFixture, record: RequestRecord, path: str = "/x") -> str:
    caplog.set_level(logging.INFO)
    caplog.clear()
    record.request_id, record.method, record.path, record.status = "abc", "GET", path, 200
    record.ended = 12.34567
    record.complete()
    assert log_request(record, logging.INFO, 1_790_000_000.5) is None
    (made,) = caplog.records
    return LineFormatter().format(made)


def test_a_line_has_what_came_up_in_its_order(caplog: pytest.LogCaptureFixture) -> None:
    record = RequestRecord(started=10, model="m", first_byte=10.5, attempts=1, sai_wait_s=0.123456, completion_tokens=5)
    record.admitted, record.guarded, record.retries, record.told = True, True, 2, "a sentence"
    record.roles = {"user": 1}
    line = written(caplog, record)
    assert line.startswith('{"time":"')
    told = json.loads(line)
    assert list(told)[1:9] == ["level", "host", "logger", "message", "request_id", "method", "path", "status"]
    assert (told["level"], told["message"], told["roles"]) == ("INFO", "request", {"user": 1})
    assert (told["duration_s"], told["ttfb_s"], told["sai_wait_s"], told["tokens_per_s"]) == (2.3457, 0.5, 0.1235, 2.1)
    assert datetime.fromisoformat(told["time"]).timestamp() == 1_790_000_000.5
    assert not {"error", "truncated", "call_repairs"} & set(told)
    assert not {"started", "ended", "route", "first_byte", "told", "guarded", "retries"} & set(told)
    assert [told[name] for name in ("attempts", "fallback", "client_disconnected")] == [1, False, False]
    assert told["unwrapped"] == 0


def test_odd_bytes_in_a_url_do_not_cost_the_line(caplog: pytest.LogCaptureFixture) -> None:
    assert json.loads(written(caplog, RequestRecord(started=0), "/\udcff"))["path"] == "/\udcff"


def test_a_record_is_one_for_every_handler(caplog: pytest.LogCaptureFixture) -> None:
    written(caplog, RequestRecord(started=0))
    (made,) = caplog.records
    assert (
        logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s")
        .format(made)
        .endswith(f"INFO {request_line.LOGGER} request")
    )


@pytest.mark.parametrize("seconds", [0.0, 1.9996, 1_790_000_000.0, 1_790_000_000.123, 1_800_000_000.9999])
def test_times_are_local_and_have_their_offset(seconds: float) -> None:
    told = datetime.fromisoformat(local_time(seconds))
    assert told.utcoffset() is not None
    assert 0 <= seconds - told.timestamp() < 0.001


def test_below_its_level_nothing_is_made(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert log_request(RequestRecord(started=0), logging.DEBUG, 0) is None
    assert caplog.records == []
