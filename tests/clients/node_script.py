"""A client that is a script under tests/clients/node."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.clients.contract import KEY, Failure, Reply

SCRIPTS = Path(__file__).parent / "node"

needs_node = pytest.mark.skipif(
    not (shutil.which("node") and (SCRIPTS / "node_modules").is_dir()),
    reason="no Node, or no packages in tests/clients/node (make test-clients installs them)",
)


class NodeScript:
    script: str

    def __init__(self, base_url: str, key: str = KEY) -> None:
        self._base_url = base_url
        self._key = key

    def _run(self, action: str, text: str) -> dict[str, Any]:
        with subprocess.Popen(
            ["node", f"{self.script}.mjs", action, self._base_url, self._key, text],
            cwd=SCRIPTS,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            line = process.stdout.readline()
        result: dict[str, Any] = json.loads(line)
        return result

    def ask(self, text: str) -> Reply:
        result = self._run("ask", text)
        prompt, completion = result["usage"]
        return Reply(result["text"], (prompt, completion))

    def stream(self, text: str) -> list[str]:
        pieces: list[str] = self._run("stream", text)["pieces"]
        return pieces

    def leave(self, text: str) -> None:
        self._run("leave", text)

    def failure(self, text: str, *, stream: bool) -> Failure:
        result = self._run("stream" if stream else "ask", text)
        return Failure(**result["failure"])

    def models(self) -> list[str] | None:
        models: list[str] | None = self._run("models", "")["models"]
        return models
