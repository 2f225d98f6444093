"""Of requests that have ended nothing is lost, though their accounts are made some at a time."""

import asyncio
import logging
from typing import Any

import pytest

from sai_proxy.telemetry import accounts
from sai_proxy.telemetry.accounts import Accounts
from sai_proxy.telemetry.record import RequestRecord
from tests.support import fields_of, until


@pytest.fixture(autouse=True)
def _a_day_to_gather(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(accounts, "GATHER_S", 86_400)
    caplog.set_level(logging.INFO)


def ended(number: int, **fields: Any) -> RequestRecord:
    record = RequestRecord(started=0, ended=1, request_id=str(number), path="/v1/chat/completions", status=200)
    record.route, record.model, record.admitted = "/v1/chat/completions", "m", True
    for name, value in fields.items():
        setattr(record, name, value)
    return record


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [fields_of(record)["request_id"] for record in caplog.records if record.message == "request"]


def counted(kept: Accounts) -> float:
    return sum(values[0] for _, values in kept.metrics.numbers.snapshot().families["sai_proxy_requests"].rows)


async def test_whoever_reads_the_metrics_finds_all_that_have_ended(caplog: pytest.LogCaptureFixture) -> None:
    kept = Accounts()
    for number in range(3):
        kept.add(ended(number))
    assert told(caplog) == []
    assert counted(kept) == 3
    assert told(caplog) == ["0", "1", "2"]
    assert counted(kept) == 3, "once"


async def test_the_home_page_shows_all_that_have_ended() -> None:
    kept = Accounts()
    kept.add(ended(1, ended=asyncio.get_running_loop().time()))
    assert kept.figures(0)["requests"] == 1


async def test_no_more_than_so_many_wait(caplog: pytest.LogCaptureFixture) -> None:
    kept = Accounts()
    for number in range(accounts.MOST_WAITING + 1):
        kept.add(ended(number))
    assert len(told(caplog)) == accounts.MOST_WAITING


async def test_none_waits_for_long(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(accounts, "GATHER_S", 0.01)
    kept = Accounts()
    for number in range(2):
        kept.add(ended(number))
        await until(lambda: len(told(caplog)) == number + 1)  # noqa: B023 (awaited at once)


async def test_one_that_cannot_be_told_takes_no_other_with_it(caplog: pytest.LogCaptureFixture) -> None:
    kept = Accounts()
    for record in (ended(1), ended(2, prompt_tokens="many", completion_tokens=1), ended(3)):
        kept.add(record)
    assert counted(kept) == 3
    assert told(caplog) == ["1", "3"]
    assert [record.message for record in caplog.records if record.exc_info] == ["a request could not be accounted for"]


async def test_a_line_has_the_time_at_which_its_request_ended(caplog: pytest.LogCaptureFixture) -> None:
    loop = asyncio.get_running_loop()
    kept = Accounts()
    kept.add(ended(1, ended=loop.time() - 3_600))
    kept.add(ended(2, ended=loop.time()))
    kept.settle()
    first, second = (record.created for record in caplog.records)
    assert second - first == pytest.approx(3_600, abs=1)
