"""The snippets of the clients' guide, run as pasted."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT, Proxy

pytest.importorskip("instructor", reason="requirements/clients.lock is not installed")

SECTION = (ROOT / "docs/clients.md").read_text()
SNIPPETS = re.findall(r"```(\w+)\n(.*?)```", SECTION, re.DOTALL)
NODE = Path(__file__).parent / "node"


def test_the_section_has_its_snippets() -> None:
    assert [language for language, _ in SNIPPETS] == ["js"] * 2 + ["python"] * 5 + [
        "sh",
        "toml",
        "python",
        "js",
        "python",
    ]


@pytest.mark.parametrize(("language", "snippet"), [pair for pair in SNIPPETS if pair[0] != "toml"])
def test_a_snippet_works_as_pasted(served: Proxy, tmp_path: Path, language: str, snippet: str) -> None:
    if language == "js" and not (
        shutil.which("node") and (NODE / "openai.mjs").is_file() and (NODE / "node_modules").is_dir()
    ):
        pytest.skip("no Node, or no packages in tests/clients/node")
    pasted = snippet.replace("http://localhost:4000", served.url)
    assert pasted != snippet
    command = {
        "js": ["node", "--input-type=module", "-e", pasted],
        "python": [sys.executable, "-c", pasted],
        "sh": ["bash", "-euc", pasted],
    }[language]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "LLM_USER_PATH": str(tmp_path), "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    run = subprocess.run(command, cwd=NODE, env=env, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr[-2000:]
    if "instructor" not in snippet:  # its snippet makes a client and asks nothing
        assert "SAI simulator: you wrote «Hola»" in run.stdout, run.stderr[-2000:]
