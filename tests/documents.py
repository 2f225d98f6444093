"""Reads the project's own texts, so that tests can hold them against the code."""

import re
from pathlib import Path

from tests.support import ROOT


def text_of(path: str | Path) -> str:
    return (ROOT / path).read_text()


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def rows(text: str, header: str) -> list[list[str]]:
    """Cells of the table whose header row starts with `header`."""
    table = text.split(header, 1)[1].split("\n\n", 1)[0]
    return [[cell.strip() for cell in line.strip("| ").split("|")] for line in table.splitlines()[2:]]


def names(cell: str) -> list[str]:
    """The words in backticks."""
    return re.findall(r"`(\w+)`", cell)


README = text_of("README.md")
REFERENCE = text_of("docs/reference.md")
ENGLISH = text_of("docs/operations.md")
SPANISH = text_of("docs/es/operaciones.md")
