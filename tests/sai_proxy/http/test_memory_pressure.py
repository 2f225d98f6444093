import subprocess
import sys
from pathlib import Path

import pytest

from sai_proxy.http.memory_pressure import memory_limit
from tests.support import ROOT

FREED = """
from sai_proxy.http.memory_pressure import resident_bytes, return_freed_memory
kept = [bytes(50_000) for _ in range(4_000)]
full = resident_bytes()
del kept[:-1]  # the last one keeps the heap from shrinking by itself
freed = resident_bytes()
return_freed_memory()
print(full, freed, resident_bytes())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the GNU C library's way")
def test_what_was_freed_goes_back() -> None:
    run = subprocess.run([sys.executable, "-c", FREED], cwd=ROOT, capture_output=True, text=True, check=True)
    full, freed, returned = map(int, run.stdout.split())
    assert freed > 0.9 * full, "else there was nothing to return"
    assert returned < 0.3 * full


@pytest.mark.parametrize(
    ("text", "limit"), [("536870912\n", 536_870_912), ("max\n", None), (str(1 << 62), None), (None, None)]
)
def test_the_limit_is_the_containers(tmp_path: Path, text: str | None, limit: int | None) -> None:
    file = tmp_path / "memory.max"
    if text is not None:
        file.write_text(text)
    assert memory_limit((file,)) == limit
