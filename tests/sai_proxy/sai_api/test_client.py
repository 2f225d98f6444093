"""The connection to SAI: back-off, connecting, TLS."""

import socket
import ssl
from pathlib import Path

import pytest
import trustme

from sai_proxy.simulator import simulator
from tests.support import running_proxy


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
