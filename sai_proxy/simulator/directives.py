"""What a text asks the simulator to do: `[[name]]` or `[[name=value]]`, anywhere in the last message.

| directive | what the simulator does |
|---|---|
| `answer=TEXT` | answers TEXT; a value in double quotes is read as a JSON string (`[[answer="a\\nb"]]`) |
| `chars=N` | answers N characters of filler |
| `echo` | answers the body it received, as JSON |
| `empty` | answers nothing |
| `truncate=N` | ends the answer after N characters, without a sign of it |
| `pieces=N`, `split=N` | sends the answer in N pieces / in pieces of N bytes |
| `delay=S` | waits S seconds before each piece but the first |
| `silence=S`, `pause=S` | waits before the status line / before the first byte of the answer |
| `stall=N` | stops for good after N pieces |
| `status=N` | answers this status; `body=text`, `json`, `html`, `credential` (the one sent) or TEXT; `retry-after=V` |
| `times=N` | `status`, `reset`, `garbage` and `silence` concern only the first N calls with this very text |
| `overflow`, `provider-error` | 500 `prompt is too long` / 500 `OpenAICompatible` |
| `redirect=URL` | 302 to that URL |
| `login=redirect`, `login=page` | 302 to a login page / a login page with status 200 |
| `reset=before`, `reset=middle` | resets the connection before the status / in the middle of the answer |
| `cut=length`, `cut=chunked` | closes the connection in mid-answer, framed either way |
| `garbage=status`, `garbage=chunk`, `garbage=gzip`, `garbage=header` | malformed HTTP |
| `extra` | sends bytes after the end of the answer |
| `gzip` | compresses the answer |
| `json`, `double` | the answer as a quoted JSON string / as one inside another |
| `wrap=NAME` | the answer inside `{"NAME": ...}` |
| `type=CONTENT-TYPE` | this Content-Type; `type=none` sends none |
| `encoding=NAME` | encodes the answer in that charset |
| `bytes=HEX` | answers these raw bytes |
| `usage=P,C`, `usage=none`, `usage=bad` | usage headers |
| `model=NAME`, `model=none` | model header |

Seconds may be `forever`. What is no directive is answered with 400, in the simulator's own words.
"""

import json
import re
from collections.abc import Mapping
from typing import NamedTuple

FOREVER_S = 3600.0

KNOWN = frozenset(re.findall(r"`([a-z-]+)(?:=[^`]*)?`", __doc__ or ""))
OF_OTHER_ENDPOINTS = frozenset(
    {
        *("deltas", "completed", "document", "expired", "incomplete", "unclosed", "failed"),
        *("nested", "plain", "responses", "bare", "call", "arguments", "finish", "sse"),
    }
)
"""`other_endpoints` says what each of its functions does of them."""

_DIRECTIVE = re.compile(r'\[\[(?P<name>[a-z-]+)(?:=(?P<value>"(?:[^"\\]|\\.)*"|.*?))?\]\]', re.DOTALL)


class DirectiveFault(ValueError):
    """A directive that does not exist, or whose value makes no sense."""


class Script(NamedTuple):
    """The directives of a text, and what is left of it without them."""

    directives: Mapping[str, str]
    text: str

    def __contains__(self, name: object) -> bool:
        return name in self.directives

    def value(self, name: str, default: str = "") -> str:
        return self.directives.get(name, default)

    def number(self, name: str, default: int) -> int:
        try:
            return int(self.directives.get(name, default))
        except ValueError:
            raise DirectiveFault(f"[[{name}={self.value(name)}]]: not a whole number") from None

    def seconds(self, name: str) -> float:
        value = self.directives.get(name, "0")
        try:
            return FOREVER_S if value == "forever" else min(float(value), FOREVER_S)
        except ValueError:
            raise DirectiveFault(f"[[{name}={value}]]: neither seconds nor `forever`") from None


def read_script(text: str) -> Script:
    """The script in `text`. Of a directive that stands twice the last counts. Raises DirectiveFault."""
    directives = {match["name"]: _value(match["value"] or "") for match in _DIRECTIVE.finditer(text)}
    if unknown := directives.keys() - KNOWN - OF_OTHER_ENDPOINTS:
        raise DirectiveFault(f"no such directive: {', '.join(sorted(unknown))}")
    return Script(directives, _DIRECTIVE.sub("", text).strip())


def _value(text: str) -> str:
    return str(json.loads(text)) if text.startswith('"') and text.endswith('"') and len(text) > 1 else text
