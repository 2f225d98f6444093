"""The commands of the handbook, run as they stand there, in one shell session."""

import os
import shlex
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.documents import ENGLISH, blocks

BLOCKS = blocks(ENGLISH, "sh")


class Handbook:
    """Runs the English handbook's commands in `folder`. replaced: what must be another here than it
    is written. Variables that a command exports stay set for those that follow."""

    def __init__(self, folder: Path, env: Mapping[str, str], replaced: Mapping[str, str]) -> None:
        self.env = dict(env)
        self.not_run = {line for block in BLOCKS for line in block.splitlines()}
        self.folder = folder
        self.replaced = dict(replaced)

    def block(self, start: str) -> str:
        """Run the block that starts so; what it says."""
        (block,) = [block for block in BLOCKS if block.startswith(start)]
        return self._run(block)

    def line(self, start: str) -> str:
        """Run the line that starts so, whatever stands around it."""
        lines = [line for block in BLOCKS for line in block.splitlines()]
        (line,) = [line for line in lines if line.startswith(start)]
        return self._run(line)

    def _run(self, written: str) -> str:
        self.not_run -= set(written.splitlines())
        command = written
        for old, new in self.replaced.items():
            command = command.replace(old, new)
        with tempfile.NamedTemporaryFile() as variables:
            script = f"set -euo pipefail\n{command}\nenv -0 > {shlex.quote(variables.name)}"
            done = subprocess.run(
                ["bash", "-c", script],
                cwd=self.folder,
                env={**os.environ, **self.env},
                capture_output=True,
                text=True,
                timeout=600,
            )
            assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
            left = Path(variables.name).read_text()
        self.env = dict(pair.split("=", 1) for pair in left.split("\0") if "=" in pair)
        return done.stdout
