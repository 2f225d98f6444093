from random import Random

import pytest

from sai_proxy.http import ids


def test_an_id_that_nobody_shall_guess_does_not_follow_from_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """The generator of ordinary ids can be told from what it has made."""
    stamps = []
    for _ in range(2):
        monkeypatch.setattr(ids, "_random", Random(7))
        stamps.append((ids.random_hex(48), ids.secret_stamp(48)[0]))
    (ordinary, secret), (again, another) = stamps
    assert ordinary == again
    assert secret != another
    assert len(ordinary) == len(secret) == 48
