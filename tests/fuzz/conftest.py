"""How much is tried: a fixed little in an ordinary run, much that is new with HYPOTHESIS_PROFILE=thorough.

One server, with a SAI of ours behind it, is shared by all tests of a worker: it has to bear them all.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.fuzz.mutations import PROFILE, SHARE
from tests.fuzz.server import GOOD, FuzzedServer, fuzzed_server

settings.register_profile("ordinary", derandomize=True, database=None, deadline=None, max_examples=100 * SHARE)
settings.register_profile("thorough", print_blob=True, deadline=None, max_examples=100 * SHARE)
settings.load_profile(PROFILE)


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FuzzedServer]:
    log: Path = tmp_path_factory.mktemp("fuzz") / "log"
    with fuzzed_server(log) as running:
        yield running


@pytest.fixture
def server(shared_server: FuzzedServer) -> Iterator[FuzzedServer]:
    """The server, which has nothing to say of bugs when the test is over."""
    shared_server.sai.answer, shared_server.sai.closes = [GOOD], False
    yield shared_server
    assert shared_server.read_log_of_errors() == []
