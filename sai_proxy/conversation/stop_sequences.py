"""Ending a text where its client wants: at a stop string, or at a number of characters. Pure.

SAI knows neither, so this is where `stop` and `max_tokens` are kept. The result is the same
however the text is cut into pieces on its way.
"""

from typing import Literal


class TextCutter:
    """Text goes in piece by piece, and comes out as far as it is certain.

    What could still become a stop string is held back, nothing else is. Of several stop strings the
    one that is complete first counts. finish_reason: why the text ended early, or None.
    """

    def __init__(self, stops: tuple[str, ...] = (), max_chars: int | None = None) -> None:
        self._stops = stops
        self._left = max_chars
        self._held = ""
        self.finish_reason: Literal["stop", "length"] | None = None

    def feed(self, text: str) -> str:
        """The text that may go out. Nothing more must be fed once there is a finish reason."""
        if self._stops:
            text = self._until_stop(self._held + text)
        return self._within_length(text)

    def end(self) -> str:
        """What was held back, since no more text follows."""
        held, self._held = self._held, ""
        return self._within_length(held)

    def _until_stop(self, text: str) -> str:
        matches = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        if matches:
            self.finish_reason, self._held = "stop", ""
            return text[: min(matches)[1]]
        certain = len(text) - max(_overlap(text, stop) for stop in self._stops)
        self._held = text[certain:]
        return text[:certain]

    def _within_length(self, text: str) -> str:
        if self._left is None:
            return text
        if len(text) > self._left:
            self.finish_reason = "length"
            text = text[: self._left]
        self._left -= len(text)
        return text


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that is a beginning, but not all, of `stop`."""
    at = text.find(stop[0], max(len(text) - len(stop) + 1, 0))
    while at >= 0:
        if stop.startswith(text[at:]):
            return len(text) - at
        at = text.find(stop[0], at + 1)
    return 0
