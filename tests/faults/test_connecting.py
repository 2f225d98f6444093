"""SAI cannot be reached, or not be trusted: U1, U2, U3, U3b, U25, U26."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from sai_proxy.simulator import simulator
from tests.faults.played_sai import Behaviour, Call, end, one_after_another, played_sai, reset, say_nothing, whole
from tests.faults.watched import watched_proxy
from tests.support import free_port, until

HELLO = whole("hello", "Content-Type: text/plain")


def nobody() -> str:
    """Where nobody listens."""
    return f"http://127.0.0.1:{free_port()}"


@contextmanager
def black_hole() -> Iterator[str]:
    """A listener whose backlog is full: the kernel drops every further SYN."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        for filler in fillers:
            filler.close()


async def test_u1_a_refused_connection_is_tried_again_with_back_off_and_then_503(stream: bool) -> None:
    async with watched_proxy(nobody(), MAX_RETRIES="2") as proxy:
        outcome = await proxy.ask(stream=stream)
        assert (outcome.status, outcome.code) == (503, "upstream_unreachable")
        assert outcome.headers["Retry-After"] == "5"
        assert outcome.headers["x-should-retry"] == "false"
        first, second = (line["wait_s"] for line in proxy.retries)
        assert 0.2 < first < second < 2
        (line,) = proxy.log.of("request")
        assert (line["attempts"], line["fault"]) == (3, "sai")


async def test_u1_without_retries_the_client_may_try_again_by_itself(stream: bool) -> None:
    async with watched_proxy(nobody(), MAX_RETRIES="0") as proxy:
        outcome = await proxy.ask(stream=stream)
        assert (outcome.status, outcome.headers["Retry-After"]) == (503, "5")
        assert "x-should-retry" not in outcome.headers
        assert proxy.retries == []


async def test_u1_a_sai_that_comes_back_between_two_tries_answers(stream: bool) -> None:
    port = free_port()
    async with watched_proxy(f"http://127.0.0.1:{port}", MAX_RETRIES="3") as proxy:
        asking = asyncio.ensure_future(proxy.ask(stream=stream))
        await until(lambda: proxy.retries)
        async with played_sai(HELLO, port=port) as sai:
            assert (await asking).text == "hello"
            assert len(sai.calls) == 1


async def test_u2_a_black_hole_is_504_after_the_connect_timeout_of_each_try(stream: bool) -> None:
    with black_hole() as url:
        async with watched_proxy(url, SAI_CONNECT_TIMEOUT="0.2", MAX_RETRIES="1") as proxy:
            outcome = await proxy.ask(stream=stream)
            assert (outcome.status, outcome.code) == (504, "upstream_timeout")
            assert "0.2 s" in str(outcome.error)
            (line,) = proxy.requests
            assert line["attempts"] == 2
            assert 0.4 <= line["duration_s"] < 5


async def test_u2_a_tls_handshake_that_never_ends_is_504_after_the_connect_timeout(stream: bool) -> None:
    accepted: list[asyncio.StreamWriter] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.append(writer)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, watched_proxy(url, SAI_CONNECT_TIMEOUT="0.2") as proxy:
        outcome = await proxy.ask(stream=stream)
        assert (outcome.status, outcome.code) == (504, "upstream_timeout")
        assert len(accepted) == 1
        for writer in accepted:
            writer.close()


async def begin_and_reset(call: Call) -> None:
    await call.send(b"HTTP/1.1 20")
    call.reset()


async def begin_and_end(call: Call) -> None:
    await call.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n")
    call.end()


@pytest.mark.parametrize("behaviour", [reset, end, begin_and_reset, begin_and_end])
async def test_u3_a_fresh_connection_that_breaks_is_502_and_asked_once(stream: bool, behaviour: Behaviour) -> None:
    """SAI may have run, and billed, what it was asked."""
    async with played_sai(behaviour) as sai, watched_proxy(sai, MAX_RETRIES="3") as proxy:
        outcome = await proxy.ask(stream=stream)
        assert (outcome.status, outcome.code) == (502, "upstream_protocol")
        assert len(sai.calls) == sai.connections == 1


@pytest.mark.parametrize("behaviour", [reset, end])
@pytest.mark.parametrize("retries", ["0", "3"])
async def test_u3b_a_reused_connection_that_breaks_is_replaced_by_one_fresh_one(
    stream: bool, behaviour: Behaviour, retries: str
) -> None:
    async with (
        played_sai(one_after_another(HELLO, behaviour, HELLO)) as sai,
        watched_proxy(sai, MAX_RETRIES=retries) as proxy,
    ):
        assert (await proxy.ask(stream=stream)).text == "hello"
        assert (await proxy.ask(stream=stream)).text == "hello"
        assert sai.connections_of_calls == [1, 1, 2]
        (retry,) = proxy.retries
        assert retry["wait_s"] == 0


@pytest.mark.parametrize("behaviour", [reset, end])
async def test_u3b_the_fresh_connection_is_no_other_idle_one(stream: bool, behaviour: Behaviour) -> None:
    """Several idle connections that SAI has given up cost one try, not one each."""
    both = asyncio.Event()

    async def answer_both_then_break(call: Call) -> None:
        if call.number <= 2:
            if call.number == 2:
                both.set()
            await both.wait()
            await call.send(HELLO)
        elif call.connection <= 2:
            await behaviour(call)
        else:
            await call.send(HELLO)

    async with played_sai(answer_both_then_break) as sai, watched_proxy(sai) as proxy:
        await asyncio.gather(proxy.ask(stream=stream), proxy.ask(stream=stream))
        assert (await proxy.ask(stream=stream)).text == "hello"
        assert len(sai.calls) == 4
        assert sai.connections_of_calls[-1] == 3


async def test_u3b_after_a_restart_of_sai_every_stale_connection_is_replaced(stream: bool) -> None:
    """A balancer that has forgotten its connections resets each of them when it is used."""
    users = 30
    all_asked = asyncio.Event()

    async def forget(call: Call) -> None:
        if call.number <= users:
            if call.number == users:
                all_asked.set()
            await all_asked.wait()
            await call.send(HELLO)
        elif call.connection <= users:
            call.reset()
        else:
            await call.send(HELLO)

    async with played_sai(forget) as sai, watched_proxy(sai, MAX_RETRIES="3") as proxy:
        await asyncio.gather(*(proxy.ask(stream=stream) for _ in range(users)))
        outcomes = await asyncio.gather(*(proxy.ask(stream=stream) for _ in range(users)))
        assert [outcome.status for outcome in outcomes] == [200] * users
        assert len(sai.calls) == 3 * users


@pytest.mark.parametrize("behaviour", [reset, end])
async def test_u3b_the_replacement_is_not_replaced(stream: bool, behaviour: Behaviour) -> None:
    async with played_sai(one_after_another(HELLO, behaviour)) as sai, watched_proxy(sai, MAX_RETRIES="3") as proxy:
        await proxy.ask(stream=stream)
        outcome = await proxy.ask(stream=stream)
        assert (outcome.status, outcome.code) == (502, "upstream_protocol")
        assert sai.connections_of_calls == [1, 1, 2]


@pytest.mark.parametrize("behaviour", [begin_and_reset, begin_and_end])
async def test_u3b_a_reused_connection_that_breaks_after_a_byte_is_not_replaced(
    stream: bool, behaviour: Behaviour
) -> None:
    async with played_sai(one_after_another(HELLO, behaviour)) as sai, watched_proxy(sai, MAX_RETRIES="3") as proxy:
        await proxy.ask(stream=stream)
        outcome = await proxy.ask(stream=stream)
        assert (outcome.status, outcome.code) == (502, "upstream_protocol")
        assert sai.connections_of_calls == [1, 1]


@pytest.mark.parametrize("behaviour", [reset, end])
async def test_u3b_a_connection_that_sai_closes_while_idle_costs_no_try(stream: bool, behaviour: Behaviour) -> None:
    async def answer_and_break(call: Call) -> None:
        await call.send(HELLO)
        await answered.wait()
        await behaviour(call)

    answered = asyncio.Event()
    async with played_sai(answer_and_break) as sai, watched_proxy(sai) as proxy:
        await proxy.ask(stream=stream)
        answered.set()
        await until(lambda: not sai.open)
        assert (await proxy.ask(stream=stream)).text == "hello"
        assert sai.connections_of_calls == [1, 2]
        assert proxy.retries == []


class Names:
    """The system's resolver, as SAI's name finds it. address: where the name leads; None for nowhere.
    calls: how often it was asked. While `slow` is held the resolver says nothing."""

    HOST = "sai.test"

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.address: str | None = None
        self.calls = 0
        self.answering = threading.Event()
        self.answering.set()
        self._system = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self._resolve)

    def _resolve(self, host: Any, *details: Any, **named: Any) -> Any:
        if host != self.HOST:
            return self._system(host, *details, **named)
        self.calls += 1
        self.answering.wait(10)
        if self.address is None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return self._system(self.address, *details, **named)

    def url(self, url: str) -> str:
        return url.replace("127.0.0.1", self.HOST)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    resolver = Names(monkeypatch)
    yield resolver
    resolver.answering.set()


async def test_u25_a_name_that_does_not_exist_is_503_after_max_retries(names: Names, stream: bool) -> None:
    async with watched_proxy(f"http://{Names.HOST}:1", MAX_RETRIES="1") as proxy:
        outcome = await proxy.ask(stream=stream)
        assert (outcome.status, outcome.code) == (503, "upstream_unreachable")
        assert outcome.headers["Retry-After"] == "5"
        assert Names.HOST not in str(outcome.error)
        (line,) = proxy.requests
        assert line["attempts"] == names.calls == 2


async def test_u25_a_slow_resolver_is_504_after_the_connect_timeout_and_blocks_nobody(
    names: Names, stream: bool
) -> None:
    names.answering.clear()
    async with watched_proxy(f"http://{Names.HOST}:1", SAI_CONNECT_TIMEOUT="0.3") as proxy:
        asking = [asyncio.ensure_future(proxy.ask(stream=stream)) for _ in range(40)]
        await until(lambda: names.calls)
        assert (await proxy.proxy.get("/health")).status == 200
        outcomes = await asyncio.gather(*asking)
        assert {(outcome.status, outcome.code) for outcome in outcomes} == {(504, "upstream_timeout")}
        assert max(line["duration_s"] for line in proxy.requests) < 5
        assert names.calls < 5, "the lookups of one name share a thread"
        names.answering.set()


async def test_u25_a_changed_address_is_found_without_a_restart(
    names: Names, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sai_proxy.sai_api.client.DNS_CACHE_S", 0.2)
    last = whole("old", "Connection: close")

    async def answer_and_end(call: Call) -> None:
        await call.send(last)
        call.end()

    async with played_sai(answer_and_end) as old:
        port = int(old.url.rsplit(":", 1)[1])
        async with played_sai(whole("new"), host="127.0.0.2", port=port) as new:
            names.address = "127.0.0.1"
            async with watched_proxy(names.url(old.url)) as proxy:
                for _ in range(3):
                    assert (await proxy.ask(stream=stream)).text == "old"
                assert names.calls < 3, "a known address is kept for a while"
                names.address = "127.0.0.2"
                while (await proxy.ask(stream=stream)).text == "old":
                    await asyncio.sleep(0.02)
                assert len(new.calls) == 1


def test_u25_an_address_is_kept_for_half_a_minute_at_most() -> None:
    from sai_proxy.sai_api.client import DNS_CACHE_S

    assert DNS_CACHE_S <= 30


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trusted(authority: trustme.CA, tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


def serving(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)
    return context


def bad_certificate(authority: trustme.CA, fault: str) -> trustme.LeafCert:
    yesterday = datetime.now(UTC) - timedelta(days=1)
    match fault:
        case "expired":
            return authority.issue_cert("127.0.0.1", not_before=yesterday - timedelta(days=1), not_after=yesterday)
        case "not yet valid":
            return authority.issue_cert("127.0.0.1", not_before=yesterday + timedelta(days=2))
        case "another name":
            return authority.issue_cert("other.example.com")
    return trustme.CA().issue_cert("127.0.0.1")


FAULTS = ["expired", "not yet valid", "another name", "another authority"]


@pytest.mark.parametrize("fault", FAULTS)
async def test_u26_a_certificate_that_is_not_to_be_trusted_is_502_and_sai_is_not_asked(
    stream: bool, fault: str, authority: trustme.CA, trusted: str
) -> None:
    async with (
        simulator(tls=serving(bad_certificate(authority, fault))) as sai,
        watched_proxy(sai, SAI_CA_FILE=trusted, MAX_RETRIES="3") as proxy,
    ):
        for _ in range(2):
            outcome = await proxy.ask(stream=stream)
            assert (outcome.status, outcome.code) == (502, "upstream_tls")
            assert outcome.headers["x-should-retry"] == "false"
        assert sai.calls == []
        assert [line["attempts"] for line in proxy.requests] == [1, 1]


@pytest.mark.parametrize("fault", FAULTS)
async def test_u26_verification_can_be_turned_off(fault: str, authority: trustme.CA) -> None:
    async with (
        simulator(tls=serving(bad_certificate(authority, fault))) as sai,
        watched_proxy(sai, SAI_TLS_VERIFY="false") as proxy,
    ):
        assert (await proxy.ask()).status == 200


async def test_u26_a_sai_that_speaks_no_tls_is_502(stream: bool) -> None:
    connections = 0

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.read(100)
        writer.write(whole("The plain HTTP request was sent to HTTPS port", status="400 Bad Request"))
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, watched_proxy(url, MAX_RETRIES="3") as proxy:
        outcome = await proxy.ask(stream=stream)
        assert (outcome.status, outcome.code) == (502, "upstream_tls")
        assert connections == 1


async def test_u26_a_good_certificate_is_trusted_and_its_connection_kept(
    stream: bool, authority: trustme.CA, trusted: str
) -> None:
    async with (
        played_sai(HELLO, tls=serving(authority.issue_cert("127.0.0.1"))) as sai,
        watched_proxy(sai, SAI_CA_FILE=trusted) as proxy,
    ):
        for _ in range(2):
            assert (await proxy.ask(stream=stream)).text == "hello"
        assert sai.connections_of_calls == [1, 1]


async def test_u3b_a_reused_connection_that_is_silent_is_not_replaced(stream: bool) -> None:
    """A reused connection on which SAI thinks for too long has timed out; it was not closed."""
    async with (
        played_sai(one_after_another(HELLO, say_nothing)) as sai,
        watched_proxy(sai, REQUEST_TIMEOUT="0.3", MAX_RETRIES="3") as proxy,
    ):
        await proxy.ask(stream=stream)
        assert (await proxy.ask(stream=stream)).code == "upstream_timeout"
        assert len(sai.calls) == 2
