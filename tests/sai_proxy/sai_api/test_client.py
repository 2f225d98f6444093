"""The connection to SAI: back-off, connecting, TLS."""

import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from sai_proxy.sai_api.client import MAX_BACKOFF_S, SaiRetry
from sai_proxy.simulator import simulator
from tests.support import running_proxy


@dataclass
class Counter:
    attempts: int = 0
    retries: int = 0


def test_the_back_off_grows_jitters_and_is_bounded() -> None:
    def waits() -> list[float]:
        retry = SaiRetry(20, Counter())
        return [retry.get_timeout(attempt) for attempt in range(1, 13)]

    first, second = waits(), waits()
    assert first != second
    assert 0.2 < first[0] < 1
    assert first[3] > first[0]
    assert max(first + second) <= MAX_BACKOFF_S + 1
    assert first[-1] > MAX_BACKOFF_S / 2


def test_each_further_attempt_is_counted() -> None:
    counter = Counter(1)
    retry = SaiRetry(3, counter)
    assert not retry.retried
    retry.get_timeout(1)
    assert (retry.retried, counter.attempts, counter.retries) == (True, 2, 1)


async def test_a_sai_that_does_not_accept_is_504() -> None:
    """A listener whose backlog is full drops what arrives, like a black hole."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with running_proxy(url, SAI_CONNECT_TIMEOUT="0.3") as proxy:
            answer = await proxy.ask()
        for filler in fillers:
            filler.close()
    assert (answer.status, answer.error["code"]) == (504, "upstream_timeout")
    assert "0.3 s" in answer.error["message"]


@pytest.fixture
def authority(tmp_path: Path) -> tuple[trustme.CA, Path]:
    ca = trustme.CA()
    path = tmp_path / "ca.pem"
    ca.cert_pem.write_to_path(str(path))
    return ca, path


@pytest.mark.parametrize(
    ("names", "verify", "trusted", "status"),
    [
        ("127.0.0.1", "true", True, 200),
        ("127.0.0.1", "true", False, 502),
        ("other.example.com", "true", True, 502),
        ("other.example.com", "false", False, 200),
    ],
)
async def test_sais_certificate_is_verified_unless_turned_off(
    authority: tuple[trustme.CA, Path], names: str, verify: str, trusted: bool, status: int
) -> None:
    ca, path = authority
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert(names).configure_cert(context)
    changes = {"SAI_CA_FILE": str(path)} if trusted else {}
    async with simulator(tls=context) as sai, running_proxy(sai, SAI_TLS_VERIFY=verify, **changes) as proxy:
        answer = await proxy.ask()
        assert answer.status == status
        if status == 502:
            assert answer.error["code"] == "upstream_tls"
            assert sai.calls == []
