import os
from collections.abc import Iterator

import pytest

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it asks the network when it is imported
pytest.register_assert_rewrite("tests.clients.contract")

from tests.clients.background import Background, background  # noqa: E402
from tests.support import Proxy  # noqa: E402


@pytest.fixture(scope="module")
def world() -> Iterator[Background]:
    """Simulator and proxies, once for a file."""
    with background() as running:
        yield running


@pytest.fixture(scope="module")
def served(world: Background) -> Proxy:
    """A proxy with default settings."""
    return world.start_proxy()
