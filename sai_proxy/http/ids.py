"""Identifiers: unlike any other, and no secrets but where that is said."""

import secrets
import time
from random import Random

_random = Random()  # noqa: S311 (seeded by the system once; asking it for each id costs a system call)


def random_hex(digits: int) -> str:
    """`digits` random hex digits."""
    return "%0*x" % (digits, _random.getrandbits(4 * digits))  # noqa: UP031 (a nested format takes twice as long)


def answer_stamp() -> tuple[str, int]:
    """Hex digits for an answer's id, and the time in Unix seconds."""
    return random_hex(24), int(time.time())


def secret_stamp(digits: int) -> tuple[str, int]:
    """The same for an id that nobody shall guess."""
    return secrets.token_hex(digits // 2), int(time.time())
