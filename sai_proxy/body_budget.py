"""How much of clients' bodies may be in memory at once, so that a few huge ones cost their senders a
503 and not every stream of this process its life."""

from sai_proxy.errors import ServerBusy

RETRY_AFTER_S = 2


class BodyBudget:
    """max_bytes: of all bodies together. One alone is always let in: how long a body may be is
    another limit's business."""

    def __init__(self, max_bytes: int) -> None:
        self.held = 0
        self._max_bytes = max_bytes

    def take(self, size: int, mine: int) -> None:
        """Account for `size` more bytes of a body of which `mine` are held. Raises ServerBusy."""
        if self.held > mine and self.held + size > self._max_bytes:
            raise ServerBusy(retry_after_s=RETRY_AFTER_S, detail=f"{self.held} bytes of bodies are in memory")
        self.held += size

    def give_back(self, size: int) -> None:
        self.held -= size
