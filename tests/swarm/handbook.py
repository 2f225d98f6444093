"""The commands of the handbook, run as they stand there, in one shell session."""

import os
import shlex
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.documents import ENGLISH, blocks

BLOCKS = blocks(ENGLISH, "sh")
ALL_LINES = [(number, line) for number, block in enumerate(BLOCKS) for line in block.splitlines()]


class Handbook:
    """Runs the English handbook's commands in `folder`. replaced: what must be another here than it
    is written. Variables that a command exports stay set for those that follow."""

    def __init__(self, folder: Path, env: Mapping[str, str], replaced: Mapping[str, str]) -> None:
        self.env = dict(env)
        self.folder = folder
        self.replaced = dict(replaced)
        self._left = set(ALL_LINES)

    @property
    def not_run(self) -> set[str]:
        """The lines that no call has run or excused."""
        return {line for _, line in self._left}

    def excuse(self, fragment: str) -> None:
        """Let lines be that cannot be run here."""
        self._left = {(number, line) for number, line in self._left if fragment not in line}

    def block(self, start: str) -> str:
        """Run the block that starts so; what it says."""
        (number,) = [number for number, block in enumerate(BLOCKS) if block.startswith(start)]
        self._left -= {(number, line) for line in BLOCKS[number].splitlines()}
        return self._run(BLOCKS[number])

    def line(self, start: str, *, ends_with: int = 0) -> str:
        """Run the line that starts so, whatever stands around it. ends_with: its exit code."""
        (found,) = [(number, line) for number, line in ALL_LINES if line.startswith(start)]
        self._left.discard(found)
        return self._run(found[1], ends_with=ends_with)

    def _run(self, written: str, *, ends_with: int = 0) -> str:
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
            assert done.returncode == ends_with, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
            if done.returncode == 0:
                left = Path(variables.name).read_text()
                self.env = dict(pair.split("=", 1) for pair in left.split("\0") if "=" in pair)
        return done.stdout
