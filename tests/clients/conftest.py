from collections.abc import Iterator

import pytest

from tests.clients.background import Background, background
from tests.support import Proxy


@pytest.fixture(scope="module")
def world() -> Iterator[Background]:
    """Simulator and proxies, once for a file."""
    with background() as running:
        yield running


@pytest.fixture(scope="module")
def served(world: Background) -> Proxy:
    """A proxy with default settings."""
    return world.start_proxy()
