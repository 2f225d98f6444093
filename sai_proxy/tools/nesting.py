"""Where a JSON value that begins with a bracket ends, found piece by piece. Pure."""

import re

_STRUCTURE = re.compile(r'["{}\[\]]')
_STRING_END = re.compile(r'["\\]')


class Nesting:
    """One value. Brackets count whichever they are: models close them in the wrong order."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def end_in(self, text: str, at: int = 0) -> int | None:
        """The position behind the value's last bracket, if that stands in `text`, the next piece, from `at` on."""
        while at < len(text):
            if self._escaped:
                self._escaped = False
                at += 1
                continue
            match = (_STRING_END if self._in_string else _STRUCTURE).search(text, at)
            if match is None:
                return None
            at = match.end()
            char = match[0]
            if char == '"':
                self._in_string = not self._in_string
            elif char == "\\":
                self._escaped = True
            elif char in "{[":
                self._depth += 1
            else:
                self._depth -= 1
                if self._depth <= 0:
                    return at
        return None
