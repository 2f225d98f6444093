"""Log lines for people at a terminal: a banner at the start, then one short line a request."""

import logging
from datetime import datetime
from typing import Any

from pythonjsonlogger.core import RESERVED_ATTRS

from sai_proxy.telemetry.record import RequestRecord
from sai_proxy.telemetry.request_line import RequestLogRecord

_RESERVED = frozenset(RESERVED_ATTRS)
_GREEN, _YELLOW, _RED, _DIM, _BOLD, _PLAIN = "32", "33", "31", "2", "1", ""
_LEVELS = {"WARNING": _YELLOW, "ERROR": _RED, "CRITICAL": _RED}

_BANNER = """
{title}  {what}

  base URL   {base_url}
  in the browser   {root}/docs
  models   {models}{workers}

  curl {base_url}/chat/completions -H "Content-Type: application/json" \\
    -d '{{"model": "{model}", "messages": [{{"role": "user", "content": "Hola"}}]}}'

  Ctrl-C ends it.
"""


def _printable(text: str) -> str:
    """With what would move the cursor, or begin a line, escaped: it may be a client's."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class TerminalFormatter(logging.Formatter):
    """colour: whether the terminal shows it."""

    def __init__(self, *, colour: bool) -> None:
        super().__init__()
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        time = self._paint(_DIM, datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S"))
        if isinstance(record, RequestLogRecord):
            return f"{time} {self._request(record.line, record.told)}"
        fields = {name: value for name, value in vars(record).items() if name not in _RESERVED and value is not None}
        message = record.getMessage()
        if message == "listening":
            return self._banner(fields)
        shown = " ".join(f"{name}={_printable(str(value))}" for name, value in fields.items() if name != "request_id")
        level = self._paint(_LEVELS.get(record.levelname, _PLAIN), f"{record.levelname:7}")
        line = f"{time} {level} {message} {self._paint(_DIM, shown)}".rstrip()
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line

    def _request(self, line: RequestRecord, told: str | None) -> str:
        colour = _GREEN if line.status < 400 else _YELLOW if line.status < 500 else _RED
        parts = [self._paint(colour, str(line.status)), f"{line.method} {_printable(line.path or '')}"]
        if line.model is not None:
            parts.append(self._paint(_BOLD, line.model))
        if line.ttfb_s is not None:
            parts.append(f"first text {line.ttfb_s:.2f} s")
        parts.append(f"{line.duration_s:.2f} s")
        if line.completion_tokens is not None:
            parts.append(f"{'~' * bool(line.usage_estimated)}{line.prompt_tokens} + {line.completion_tokens} tokens")
        if line.error is not None:
            parts.append(self._paint(colour, line.error))
        text = "  ".join(parts)
        return f"{text}\n         {_printable(told)}" if told else text

    def _banner(self, fields: dict[str, Any]) -> str:
        base_url, models = str(fields["base_url"]), list(fields["models"])
        demo = bool(fields.get("demo"))
        what = "DEMO: a built-in simulator answers, not SAI" if demo else f"in front of {fields['sai_url']}"
        return _BANNER.format(
            title=self._paint(_BOLD, f"sai-proxy {fields['version']}"),
            what=self._paint(_YELLOW if demo else _PLAIN, what),
            base_url=base_url,
            root=base_url.removesuffix("/v1"),
            models=", ".join(models),
            workers=f"\n  processes   {fields['workers']}" if "workers" in fields else "",
            model=models[0],
        )

    def _paint(self, colour: str, text: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._colour and colour and text else text
