"""Credentials that SAI has limited, and for how long they are let rest instead of being asked with in vain."""

import hashlib
import os
from collections.abc import Callable
from random import Random

from sai_proxy.credentials import Credential

DEFAULT_REST_S = 30.0
MIN_REST_S = 1.0
MAX_REST_S = 600.0
MAX_REMEMBERED = 10_000
_JITTER = 0.1
"""Downwards: who waits for as long as it was told is not to be refused once more."""


class Rest:
    """until: when one call may find out whether the limit is gone. probing: whether one does."""

    __slots__ = ("probing", "until")

    def __init__(self, until: float) -> None:
        self.until = until
        self.probing = False


class CredentialRests:
    """By credential and target, as SAI counts its limits. now: a monotonic clock, in seconds.

    Credentials are remembered under a keyed hash, never as they are.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._rests: dict[bytes, Rest] = {}
        self._key = os.urandom(16)
        self._random = Random(self._key)  # noqa: S311 (spreads probes, guards nothing)

    def __len__(self) -> int:
        """How many rest now."""
        now = self._now()
        return sum(rest.until > now for rest in self._rests.values())

    def seconds_left(self, credential: Credential, target: str) -> float:
        """How long not to ask; 0 if it may be. To one call after a rest 0 is answered, to others only
        when that one is done."""
        if not self._rests:
            return 0.0
        rest = self._rests.get(self._name(credential, target))
        if rest is None:
            return 0.0
        left = rest.until - self._now()
        if left > 0:
            return left
        if rest.probing:
            return 1.0
        rest.probing = True
        return 0.0

    def limited(self, credential: Credential, target: str, seconds: float | None) -> None:
        """SAI has answered 429, and asked to wait for `seconds`, if it said so."""
        wait = min(DEFAULT_REST_S if seconds is None else max(seconds, MIN_REST_S), MAX_REST_S) * (
            1 - self._random.random() * _JITTER
        )
        if len(self._rests) >= MAX_REMEMBERED:
            now = self._now()
            self._rests = {name: rest for name, rest in self._rests.items() if rest.until > now}
            if len(self._rests) >= MAX_REMEMBERED:
                return
        self._rests[self._name(credential, target)] = Rest(self._now() + wait)

    def freed(self, credential: Credential, target: str) -> None:
        """A call has ended in any other way: nothing speaks against the credential any more."""
        if self._rests:
            rest = self._rests.get(self._name(credential, target))
            if rest is not None and rest.until <= self._now():
                del self._rests[self._name(credential, target)]

    def _name(self, credential: Credential, target: str) -> bytes:
        return hashlib.blake2b(f"{target}\0{credential.value}".encode(), key=self._key, digest_size=16).digest()
