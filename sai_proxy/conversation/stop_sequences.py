"""Ending a text where its client wants: at a stop sequence, or at a number of characters. Pure.

SAI knows neither, so this is where `stop` and `max_tokens` are kept. The result is the same
however the text is cut into pieces on its way, and takes time in proportion to the text's length.
"""

from typing import Literal


class TextEnd:
    """Text goes in piece by piece, and comes out as far as it is certain.

    What could still become a stop sequence is held back, nothing else is. Of several the one that is
    complete first counts. finish_reason: why the text ended early, or None.
    """

    def __init__(self, stops: tuple[str, ...] = (), max_chars: int | None = None) -> None:
        self._stops = [StopSequence(stop) for stop in stops]
        self._left = max_chars
        self._held = ""
        self.finish_reason: Literal["stop", "length"] | None = None

    def feed(self, text: str) -> str:
        """The text that may go out. Nothing more must be fed once there is a finish reason."""
        if self._stops:
            text = self._until_stop(text)
        return self._within_length(text)

    def end(self) -> str:
        """What was held back, since no more text follows."""
        held, self._held = self._held, ""
        return self._within_length(held)

    def _until_stop(self, piece: str) -> str:
        text = self._held + piece
        matches = [(at + len(stop.text), at) for stop in self._stops if (at := text.find(stop.text)) >= 0]
        if matches:
            self.finish_reason, self._held = "stop", ""
            return text[: min(matches)[1]]
        certain = len(text) - max(stop.begun_after(piece) for stop in self._stops)
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


class StopSequence:
    """How much of one stop sequence stands at the end of a text that does not hold it, by the algorithm
    of Knuth, Morris and Pratt."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._begun = 0
        self._shorter = _borders(text)

    def begun_after(self, piece: str) -> int:
        """Length of the longest end of all text so far, `piece` included, that is a beginning of it."""
        if len(piece) >= len(self.text):  # what stood before cannot matter
            piece, self._begun = piece[len(piece) - len(self.text) + 1 :], 0
        begun = self._begun
        for char in piece:
            while begun and self.text[begun] != char:
                begun = self._shorter[begun - 1]
            begun += self.text[begun] == char
        self._begun = begun
        return begun


def _borders(text: str) -> list[int]:
    """For each beginning of `text`, the length of the longest shorter beginning that also is its end."""
    borders = [0] * len(text)
    length = 0
    for at in range(1, len(text)):
        while length and text[at] != text[length]:
            length = borders[length - 1]
        length += text[at] == text[length]
        borders[at] = length
    return borders
