"""The one log line of a request, and its way into the log.

There is one for each request, so it is a type of its own: as a record with a dictionary of extra fields it would be a
sixth of what the proxy adds to a request.
"""

import json
import logging
import time
from datetime import datetime
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import asdict

from sai_proxy.telemetry.host import host_name
from sai_proxy.telemetry.record import RequestRecord

LOGGER = "middlewares.request_record"
MESSAGE = "request"

logger = logging.getLogger(LOGGER)


class RequestLine(Struct, kw_only=True, omit_defaults=True):
    """Fields in the order in which they are written; what never came up is left out. `RequestRecord` says what most
    of them are. Times in seconds."""

    time: str
    level: str
    host: str
    logger: str
    message: str
    request_id: str | None = None
    method: str
    path: str
    status: int
    client: str | None = None
    user_agent: str | None = None
    key_id: str | None = None
    model: str | None = None
    road: str | None = None
    sai_model: str | None = None
    stream: bool | None = None
    messages: int | None = None
    left_out_tools: list[str] | None = None
    roles: dict[str, int] | None = None
    chars: int | None = None
    truncated: int | None = None
    unwrapped: int
    credential: str | None = None
    key_place: str | None = None
    ignored_keys: list[str] | None = None
    attempts: int
    fallback: bool
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    usage_estimated: bool | None = None
    finish_reason: str | None = None
    error: str | None = None
    param: str | None = None
    fault: str | None = None
    call_forms: dict[str, int] | None = None
    call_repairs: int | None = None
    call_misreadings: int | None = None
    second_asks: int | None = None
    client_disconnected: bool
    duration_s: float
    upload_s: float | None = None
    sai_wait_s: float | None = None
    ttfb_s: float | None = None
    tokens_per_s: float | None = None

    def as_json(self) -> str:
        """The line, without its end."""
        try:
            return _encoder.encode(self).decode()
        except UnicodeEncodeError:  # a lone surrogate, from odd bytes in a URL
            return json.dumps(self.shown())

    def shown(self) -> dict[str, Any]:
        """Its fields by their names, without those that never came up."""
        return {name: value for name, value in asdict(self).items() if value is not None}


_encoder = msgspec.json.Encoder()


class RequestLogRecord(logging.LogRecord):
    """A record with a line in place of a message. told: what the client was told, for terminals alone.

    An ordinary record, with its fields as attributes, takes several times as long to be made and formatted.
    """

    def __init__(self, line: RequestLine, level: int, created: float, told: str | None) -> None:
        self.__dict__.update(_PLAIN)
        self.line = line
        self.levelno, self.levelname = level, line.level
        self.created = created
        self.told = told


_PLAIN = vars(logging.makeLogRecord({"name": LOGGER, "msg": MESSAGE}))


def log_request(
    record: RequestRecord, level: int, now: float, *, request_id: str | None, method: str, path: str, status: int
) -> None:
    """Write the line of a request that has ended. now: of the loop's clock."""
    if not logger.isEnabledFor(level):
        return
    created, duration = time.time(), now - record.started
    completion = record.completion_tokens
    line = RequestLine(
        time=local_time(created),
        level=logging.getLevelName(level),
        host=host_name(),
        logger=LOGGER,
        message=MESSAGE,
        request_id=request_id,
        method=method,
        path=path,
        status=status,
        client=record.client,
        user_agent=record.user_agent,
        key_id=record.key_id,
        model=record.model or record.asked_model,
        road=record.road,
        sai_model=record.sai_model,
        stream=record.stream,
        messages=record.messages,
        left_out_tools=record.left_out_tools,
        roles=record.roles,
        chars=record.chars,
        truncated=record.truncated or None,
        unwrapped=record.unwrapped,
        credential=record.credential,
        key_place=record.key_place,
        ignored_keys=record.ignored_keys,
        attempts=record.attempts,
        fallback=record.fallback,
        prompt_tokens=record.prompt_tokens,
        completion_tokens=completion,
        usage_estimated=record.usage_estimated,
        finish_reason=record.finish_reason,
        error=record.error,
        param=record.param,
        fault=record.fault,
        call_forms=record.call_forms,
        call_repairs=record.call_repairs or None,
        call_misreadings=record.call_misreadings or None,
        second_asks=record.second_asks or None,
        client_disconnected=record.client_disconnected,
        duration_s=_rounded(duration),
        upload_s=None if record.upload_s is None else _rounded(record.upload_s),
        sai_wait_s=_rounded(record.sai_wait_s) if record.attempts else None,
        ttfb_s=None if record.first_byte is None else _rounded(record.first_byte - record.started),
        tokens_per_s=int(completion / duration * 10 + 0.5) / 10 if completion and duration > 0 else None,
    )
    logger.handle(RequestLogRecord(line, level, created, record.told))


def _rounded(seconds: float) -> float:
    """To a tenth of a millisecond; Python's own rounding goes through decimal digits."""
    return int(seconds * 10_000 + 0.5) / 10_000


def local_time(created: float) -> str:
    """Unix seconds as ISO 8601, local time with its offset, to the millisecond."""
    seconds = int(created)
    begin, offset = _local_second(seconds)
    return f"{begin}.{int((created - seconds) * 1000):03d}{offset}"


@lru_cache(maxsize=4)
def _local_second(seconds: int) -> tuple[str, str]:
    text = datetime.fromtimestamp(seconds).astimezone().isoformat()
    return text[:19], text[19:]
