"""Generated requests against /openapi.json: no 5xx that SAI did not cause, nothing undocumented."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import Proxy

pytest.importorskip("schemathesis", reason="requirements/clients.lock is not installed")

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
CASES = "200"


def test_generated_requests_meet_documented_answers(served: Proxy, tmp_path: Path) -> None:
    command = Path(sys.executable).with_name("schemathesis")
    run = subprocess.run(
        [
            command,
            "run",
            f"{served.url}/openapi.json",
            "--checks",
            CHECKS,
            "--max-examples",
            CASES,
            "--seed",
            "1",
            "--no-color",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stdout[-5000:]
    generated = re.search(r"(\d+) generated", run.stdout)
    assert generated
    assert int(generated[1]) > 8 * 100, "some hundred cases a route"
