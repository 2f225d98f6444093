import os
from collections.abc import Iterator

import pytest

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it asks the network when it is imported
pytest.register_assert_rewrite("tests.clients.contract")

from tests.clients.background import Background, background  # noqa: E402
from tests.clients.validated import every_answer_checked  # noqa: E402
from tests.support import Proxy  # noqa: E402


@pytest.fixture(scope="module")
def world() -> Iterator[Background]:
    """Simulator and proxies, once for a file. Every answer of theirs is checked against OpenAI's schemas."""
    with every_answer_checked() as counter, background() as running:
        yield running
    assert counter[0], "no answer was checked"


@pytest.fixture(scope="module")
def served(world: Background) -> Proxy:
    """A proxy with default settings."""
    return world.start_proxy()
