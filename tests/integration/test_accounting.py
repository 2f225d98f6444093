"""Some seconds of the soak: every request is accounted for, and nothing is held afterwards."""

import logging

import pytest

from benchmarks.soak import soak


async def test_every_request_is_accounted_for_exactly_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its client, its log line and the metrics; and each attempt is a call that SAI received."""
    monkeypatch.setattr(logging.getLogger("aiohttp.server"), "disabled", True)
    report = await soak(duration_s=4)
    assert report.faults == [], "\n" + "\n".join(report.lines)
