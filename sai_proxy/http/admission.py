"""What all requests together may hold of this process, and who gives it back: connections, slots, and
bytes of heads, bodies, questions and answers. What is refused is refused before it costs anything.

Ownership: a `Holding` is opened by the admission layer and closed by it however the request ends. The
server's protocol counts connections and the heads that are still arriving.
"""

from collections import Counter

from sai_proxy.errors import ServerBusy, TooManyAtOnce, UpstreamAnswerTooLong

RETRY_AFTER_S = 2

SMALL_BYTES = 256 * 1024
"""A request that holds no more than this may use the whole budget; a larger one only what is below
LARGE_SHARE of it, so that ordinary requests are not turned away for what large ones take."""

LARGE_SHARE = 0.75


class Admission:
    """max_requests: at once, each weighing as much as it has choices. max_bytes: held at once; one request
    alone is always let in, since how long it may be is another limit's business. max_per_key: requests at
    once with one key, None for any number. max_connections: open at once.

    entered: how many requests are inside. requests: the same, each by its weight. held: bytes. free_for_all: bytes
    up to which nobody is refused any.
    under_pressure: whether the process is about to run out of memory whatever is counted here; nothing
    new is let in then.
    """

    def __init__(
        self, *, max_requests: int, max_bytes: int, max_per_key: int | None = None, max_connections: int = 1_000_000
    ) -> None:
        self.entered = 0
        self.requests = 0
        self.held = 0
        self.connections = 0
        self.under_pressure = False
        self.refused: Counter[str] = Counter()
        self.max_per_key = max_per_key
        self.by_key: Counter[str] = Counter()
        self.free_for_all = int(max_bytes * LARGE_SHARE)
        self._max_requests = max_requests
        self._max_bytes = max_bytes
        self._max_connections = max_connections

    def enter(self) -> "Holding":
        """A request begins. Raises ServerBusy."""
        if self.under_pressure:
            raise self.refusal("memory", "memory is short")
        if self.requests >= self._max_requests:
            self.check_slots(1, held_by_same=0)
        self.requests += 1
        self.entered += 1
        return Holding(self, slots=1)

    def connect(self) -> bool:
        """Whether one more connection may be open; it counts as open either way."""
        self.connections += 1
        return self.connections <= self._max_connections

    def disconnect(self) -> None:
        """A connection has ended."""
        self.connections -= 1

    def check_bytes(self, size: int, *, held_by_same: int, alone: bool = True) -> None:
        """Raises ServerBusy if so much more is too much, which it cannot be within `free_for_all`. held_by_same: what
        its owner holds already."""
        limit = self.limit_of(held_by_same + size)
        if not (alone and self.held <= held_by_same) and self.held + size > limit:
            raise self.refusal("bytes", f"{self.held} bytes are held")

    def check_slots(self, slots: int, *, held_by_same: int) -> None:
        """Raises ServerBusy if there are not that many more. One request alone always gets them.
        held_by_same: what its owner holds already."""
        if self.requests > held_by_same and self.requests + slots > self._max_requests:
            raise self.refusal("requests", f"{self.requests} requests are running")

    def limit_of(self, size: int) -> int:
        """Bytes that all may hold, if one that holds so many of them is to be let in."""
        return self._max_bytes if size <= SMALL_BYTES else int(self._max_bytes * LARGE_SHARE)

    def refusal(self, reason: str, detail: str) -> ServerBusy:
        """Counts a refusal. reason: a label for metrics."""
        self.refused[reason] += 1
        return ServerBusy(retry_after_s=RETRY_AFTER_S, detail=detail)


class Holding:
    """What one request holds; `close` gives all of it back."""

    __slots__ = ("_admission", "_bytes", "_key", "_slots")

    def __init__(self, admission: Admission, *, slots: int) -> None:
        self._admission = admission
        self._slots = slots
        self._bytes = 0
        self._key: str | None = None

    def weigh(self, slots: int) -> None:
        """It takes so many slots, from now on. Raises ServerBusy."""
        more, admission = slots - self._slots, self._admission
        if more > 0:
            admission.check_slots(more, held_by_same=self._slots)
        admission.requests += more
        self._slots = slots

    def grow(self, size: int, *, alone: bool = True) -> None:
        """It holds so many bytes more. alone: whether the only one may hold any number. Raises ServerBusy."""
        admission = self._admission
        if size > 0 and admission.held + size > admission.free_for_all:
            admission.check_bytes(size, held_by_same=self._bytes, alone=alone)
        admission.held += size
        self._bytes += size

    def grow_by_answer(self, size: int) -> None:
        """It holds so many bytes more of SAI's answer. Raises ServerBusy; UpstreamAnswerTooLong, which nobody tries
        again, for what would not fit if it were the only one."""
        admission, held = self._admission, self._bytes + size
        if size > 0 and held > admission.free_for_all and held > (limit := admission.limit_of(held)):
            raise UpstreamAnswerTooLong({"limit": limit}, detail="more than MAX_BUFFERED_BYTES lets one request hold")
        self.grow(size, alone=False)

    def settle(self, size: int) -> None:
        """It holds so many bytes in all, whatever it held before. Raises ServerBusy."""
        if size != self._bytes:
            self.grow(size - self._bytes)

    def name(self, key: str) -> None:
        """Whose request it is: a hash, never a key. Raises TooManyAtOnce."""
        most, by_key = self._admission.max_per_key, self._admission.by_key
        if most is None:
            return
        if by_key[key] >= most:
            self._admission.refused["key"] += 1
            raise TooManyAtOnce({"limit": most}, retry_after_s=RETRY_AFTER_S)
        by_key[key] += 1
        self._key = key

    def close(self) -> None:
        """Nothing of it is held any more."""
        admission = self._admission
        admission.entered -= bool(self._slots)
        admission.requests -= self._slots
        admission.held -= self._bytes
        self._slots = self._bytes = 0
        if self._key is not None:
            admission.by_key[self._key] -= 1
            if not admission.by_key[self._key]:
                del admission.by_key[self._key]
            self._key = None
