"""How much of clients' bodies may be in memory at once, so that a few huge ones cost their senders a
503 and not every stream of this process its life."""

from sai_proxy.errors import ServerBusy

FREE_BYTES = 64 * 1024
"""The beginning of each body, which is always let in: ordinary requests end within it, and must not
be turned away for what others send."""

RETRY_AFTER_S = 2


class BodyBudget:
    """max_bytes: of all bodies together, each but for its first FREE_BYTES. One alone is always let
    in: how long a body may be is another limit's business."""

    def __init__(self, max_bytes: int) -> None:
        self.held = 0
        self._max_bytes = max_bytes

    def account(self) -> "BodyAccount":
        """For one body."""
        return BodyAccount(self)

    def change(self, before: int, after: int) -> None:
        """A body that held `before` holds `after` now. Raises ServerBusy if that is too much."""
        if after > before and self.held > before and self.held + after - before > self._max_bytes:
            raise ServerBusy(retry_after_s=RETRY_AFTER_S, detail=f"{self.held} bytes of bodies are in memory")
        self.held += after - before


class BodyAccount:
    """What one body takes of the budget."""

    def __init__(self, budget: BodyBudget) -> None:
        self._budget = budget
        self._held = 0

    def grow_to(self, size: int) -> None:
        """The body has `size` bytes by now. Raises ServerBusy."""
        due = max(size - FREE_BYTES, 0)
        if due > self._held:
            self._budget.change(self._held, due)
            self._held = due

    def settle(self, size: int) -> None:
        """What was made of the body takes as much as `size` bytes of it did. Raises ServerBusy."""
        due = max(size - FREE_BYTES, 0)
        self._budget.change(self._held, due)
        self._held = due

    def close(self) -> None:
        """Nothing of it is held any more."""
        self._budget.change(self._held, 0)
        self._held = 0
