"""Reads an answer that has to be JSON: the value itself, without fences and chatter around it. Pure."""

from sai_proxy.tools.nesting import Nesting


class JsonReader:
    """Text in, JSON text out: held until a value begins, then as it comes; what stands behind it is left out.

    text: all that has come out. before, behind: characters that were left out. whole: whether the value has ended.
    """

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.before = 0
        self.behind = 0
        self.whole = False
        self._nesting: Nesting | None = None

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    def feed(self, text: str) -> str:
        """What of `text` is JSON."""
        if self.whole:
            self.behind += len(text)
            return ""
        at = 0
        if self._nesting is None:
            starts = [at for at in (text.find("{"), text.find("[")) if at >= 0]
            if not starts:
                self.before += len(text)
                return ""
            at = min(starts)
            self.before += at
            self._nesting = Nesting()
        end = self._nesting.end_in(text, at)
        if end is not None:
            self.whole = True
            self.behind += len(text) - end
        piece = text[at:end]
        self.pieces.append(piece)
        return piece
