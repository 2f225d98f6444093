"""Log lines for people at a terminal: a banner at the start, then one short line a request."""

import logging
from datetime import datetime
from typing import Any

from pythonjsonlogger.core import RESERVED_ATTRS

HIDDEN = frozenset({"told"})
"""Fields of records that are for this form alone."""

_RESERVED = frozenset(RESERVED_ATTRS) | HIDDEN
_GREEN, _YELLOW, _RED, _DIM, _BOLD, _PLAIN = "32", "33", "31", "2", "1", ""
_LEVELS = {"WARNING": _YELLOW, "ERROR": _RED, "CRITICAL": _RED}

_BANNER = """
{title}  {what}

  base URL   {base_url}
  in the browser   {root}/docs
  models   {models}

  curl {base_url}/chat/completions -H "Content-Type: application/json" \\
    -d '{{"model": "{model}", "messages": [{{"role": "user", "content": "Hola"}}]}}'

  Ctrl-C ends it.
"""


class TerminalFormatter(logging.Formatter):
    """colour: whether the terminal shows it."""

    def __init__(self, *, colour: bool) -> None:
        super().__init__()
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        fields = {name: value for name, value in vars(record).items() if name not in _RESERVED and value is not None}
        message = record.getMessage()
        if message == "listening":
            return self._banner(fields)
        time = self._paint(_DIM, datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S"))
        if message == "request":
            return f"{time} {self._request(fields, getattr(record, 'told', None))}"
        shown = " ".join(f"{name}={value}" for name, value in fields.items() if name != "request_id")
        level = self._paint(_LEVELS.get(record.levelname, _PLAIN), f"{record.levelname:7}")
        line = f"{time} {level} {message} {self._paint(_DIM, shown)}".rstrip()
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line

    def _request(self, fields: dict[str, Any], told: str | None) -> str:
        status = int(fields["status"])
        colour = _GREEN if status < 400 else _YELLOW if status < 500 else _RED
        parts = [self._paint(colour, str(status)), f"{fields['method']} {fields['path']}"]
        if "model" in fields:
            parts.append(self._paint(_BOLD, str(fields["model"])))
        if "ttfb_s" in fields:
            parts.append(f"first text {fields['ttfb_s']:.2f} s")
        parts.append(f"{fields['duration_s']:.2f} s")
        if "completion_tokens" in fields:
            estimated = "~" if fields.get("usage_estimated") else ""
            parts.append(f"{estimated}{fields['prompt_tokens']} + {fields['completion_tokens']} tokens")
        if "error" in fields:
            parts.append(self._paint(colour, str(fields["error"])))
        line = "  ".join(parts)
        return f"{line}\n         {told}" if told else line

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
            model=models[0],
        )

    def _paint(self, colour: str, text: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._colour and colour and text else text
