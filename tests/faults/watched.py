"""A proxy under watch: whatever SAI does, some things hold, and are checked here for every test.

Each answer has its id. Each failure has OpenAI's form, and so has each stream that breaks off, whose text
never looks finished. When all is answered nothing is held any more, each request has left one line in the
log, each failure is counted, and no task has left an exception behind.
"""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from sai_proxy.keys import ACCOUNTS, ADMISSION, METRICS
from sai_proxy.simulator import Simulator
from sai_proxy.telemetry.accounts import Accounts
from tests.faults.played_sai import PlayedSai
from tests.support import Answer, Proxy, check_schema, content_of, fields_of, running_proxy, until

PATIENCE_S = 20
"""Above all that a test lets SAI take, so that a request that hangs fails its test."""


class Lines(logging.Handler):
    """What has been logged, and what is to be said of requests that have ended. accounts: theirs."""

    accounts: Accounts | None = None

    def __init__(self) -> None:
        super().__init__()
        self._records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self._records.append(record)

    @property
    def records(self) -> list[logging.LogRecord]:
        if self.accounts is not None:
            self.accounts.settle()
        return self._records

    def of(self, message: str) -> list[dict[str, Any]]:
        """The fields of all lines with this message."""
        return [fields_of(record) for record in self.records if record.getMessage() == message]


@dataclass
class Outcome:
    """What a client was told, whole or streamed. error: None for none. told: the failure's code, where the
    operator chose to have it told as an answer."""

    answer: Answer
    stream: bool
    told: str | None = None

    @property
    def status(self) -> int:
        return self.answer.status

    @property
    def headers(self) -> Mapping[str, str]:
        return self.answer.headers

    @property
    def begun(self) -> bool:
        """Whether it is an event stream, whose status is 200 whatever follows."""
        return self.stream and self.answer.status == 200

    @property
    def error(self) -> dict[str, Any] | None:
        if not self.begun:
            error: dict[str, Any] | None = self.answer.json.get("error")
            return error
        last = self.answer.events[-1]
        return last["error"] if isinstance(last, dict) and "error" in last else None

    @property
    def code(self) -> str | None:
        return self.error["code"] if self.error else None

    @property
    def text(self) -> str:
        return content_of(self.answer.events) if self.begun else self.answer.content

    @property
    def finish_reason(self) -> str | None:
        if not self.begun:
            return str(self.answer.json["choices"][0]["finish_reason"])
        reasons = [c["finish_reason"] for e in self.answer.events if "choices" in e for c in e["choices"]]
        return next((reason for reason in reasons if reason), None)

    @property
    def heartbeats(self) -> int:
        return self.answer.text.count(": keep-alive\n")

    def check(self) -> None:
        assert self.headers["x-request-id"]
        if self.begun:
            assert self.headers["Content-Type"].startswith("text/event-stream")
            assert (self.error is None) == (self.answer.events[-1] == "[DONE]")
            assert (self.error is None) == (self.finish_reason is not None)
        else:
            assert self.headers["Content-Type"].startswith("application/json")
        if self.error is not None:
            assert self.begun or self.status >= 400
            check_schema("error", {"error": self.error})


@dataclass
class Watched:
    """A running proxy whose every answer is checked. outcomes: of all requests, in the order of their ends.
    left: how many clients have left before the end."""

    proxy: Proxy
    log: Lines
    outcomes: list[Outcome] = field(default_factory=list)
    left: int = 0

    async def ask(
        self,
        text: str = "Hello",
        *,
        stream: bool = False,
        key: str | None = None,
        failure: str | None = None,
        **fields: Any,
    ) -> Outcome:
        """Ask one user message, with the system's credentials or a key of one's own. failure: the code of a
        failure that is to be told as an answer."""
        headers = {} if key is None else {"x-api-key": key}
        async with asyncio.timeout(PATIENCE_S):
            answer = await self.proxy.ask(text, headers=headers, stream=stream, **fields)
        outcome = Outcome(answer, stream, failure)
        self.outcomes.append(outcome)
        outcome.check()
        return outcome

    async def leave(self, asking: "asyncio.Task[Outcome]") -> None:
        """Be the client of a request that does not wait for its answer."""
        asking.cancel()
        self.left += 1
        await until(lambda: self.idle)

    @property
    def requests(self) -> list[dict[str, Any]]:
        """The log lines of requests to a model."""
        return [line for line in self.log.of("request") if line["method"] == "POST"]

    @property
    def retries(self) -> list[dict[str, Any]]:
        return self.log.of("asking SAI again")

    @property
    def idle(self) -> bool:
        admission = self.proxy.app[ADMISSION]
        return not (self.proxy.lifecycle.answering or admission.requests or admission.held or admission.by_key)

    async def at_rest(self) -> None:
        """Nothing is held any more, and what has happened is on record."""
        asked = len(self.outcomes) + self.left
        await until(lambda: self.idle and len(self.requests) >= asked)
        assert len(self.requests) == asked
        failed = sorted(code for outcome in self.outcomes if (code := outcome.code or outcome.told))
        assert sorted(line["error"] for line in self.requests if "error" in line) == failed
        registry = self.proxy.app[METRICS].registry
        samples = [sample for metric in registry.collect() for sample in metric.samples]
        assert sum(sample.value for sample in samples if sample.name == "sai_proxy_failures_total") == len(failed)
        gc.collect(1)  # which makes tasks tell of exceptions that nobody has asked for
        assert [r.getMessage() for r in self.log.records if r.name == "asyncio" or r.levelno >= logging.ERROR] == []


@asynccontextmanager
async def watched_proxy(sai: PlayedSai | Simulator | str, **changes: str) -> AsyncIterator[Watched]:
    """A proxy in front of `sai`, checked to be at rest when the context ends."""
    lines = Lines()
    loggers = [logging.getLogger(name) for name in ("sai_proxy", "middlewares", "asyncio")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(lines)
        logger.setLevel(logging.INFO)
    try:
        async with running_proxy(sai if isinstance(sai, str) else sai.url, **changes) as proxy:
            lines.accounts = proxy.app[ACCOUNTS]
            watched = Watched(proxy, lines)
            yield watched
            await watched.at_rest()
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(lines)
            logger.setLevel(level)
