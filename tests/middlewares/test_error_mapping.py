import logging

import pytest
from aiohttp import web

from middlewares import error_mapping_middleware
from sai_proxy import errors
from sai_proxy.openai_api.failures import FailurePolicy
from sai_proxy.telemetry.record import RequestRecord
from tests.middlewares.conftest import StartLayer


@pytest.mark.parametrize(
    ("raised", "status", "code"),
    [
        (errors.RateLimited({"credential_en_mid": "the key"}), 429, "rate_limit_exceeded"),
        (web.HTTPNotFound(), 404, None),
        (web.HTTPMethodNotAllowed("PUT", ["GET"]), 405, None),
        (web.HTTPRequestEntityTooLarge(5, 6), 413, "request_too_large"),
        (web.HTTPBadRequest(), 400, None),
        (web.HTTPInternalServerError(), 500, None),
        (ValueError("internal s3cret"), 500, None),
    ],
)
async def test_whatever_is_raised_is_an_openai_error(
    start_layer: StartLayer, raised: Exception, status: int, code: str | None
) -> None:
    async def fail(request: web.Request) -> web.Response:
        raise raised

    record = RequestRecord(started=0)
    client = await start_layer(error_mapping_middleware(FailurePolicy(language="en")), fail, record=record)
    async with client.get("/") as response:
        body = await response.json()
        assert response.status == status
    assert body["error"]["code"] == code
    assert "s3cret" not in str(body)
    assert record.error == (code or body["error"]["type"])


async def test_an_unexpected_error_is_logged_once_with_its_traceback(
    start_layer: StartLayer, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(request: web.Request) -> web.Response:
        raise ValueError("boom")

    client = await start_layer(error_mapping_middleware(FailurePolicy()), fail)
    async with client.get("/"):
        pass
    (entry,) = [entry for entry in caplog.records if entry.levelno >= logging.ERROR]
    assert entry.exc_info is not None
    assert "boom" in str(entry.exc_info[1])
