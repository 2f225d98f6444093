"""The README and the Spanish quick start are run, and the tables of all texts compared with the code."""

import asyncio
import re
import sys
from pathlib import Path

import msgspec
import pytest

from sai_proxy.configuration.environment import PLAIN_VARIABLES, read_settings, shown_settings
from sai_proxy.errors.table import ERROR_TABLE
from sai_proxy.openai_api.chat_request import ChatCompletionRequest
from sai_proxy.openai_api.completion_request import CompletionRequest
from sai_proxy.openai_api.parameters import CHAT_PARAMETERS, COMPLETION_PARAMETERS, RESPONSES_PARAMETERS, Treatment
from sai_proxy.openai_api.responses_request import ResponsesRequest
from tests.documents import ENGLISH, README, REFERENCE, SPANISH, blocks, names, rows
from tests.support import ROOT, content_of, environment, read_events, running_process

START = README.split("## Connect a client", 1)[0]


def snippets(language: str, containing: str) -> list[str]:
    return [block for text in (START, SPANISH) for block in blocks(text, language) if containing in block]


CURLS = snippets("sh", "curl")
PYTHONS = snippets("python", "openai")


def test_the_readme_has_the_promised_snippets() -> None:
    assert len(CURLS) == 3
    assert len(PYTHONS) == 1


@pytest.mark.parametrize("snippet", [*CURLS, *PYTHONS])
async def test_a_snippet_works_as_pasted(snippet: str) -> None:
    command = ("bash", "-euc") if snippet in CURLS else (sys.executable, "-c")
    async with running_process({}, "--demo") as process:
        pasted = snippet.replace("http://localhost:4000", process.proxy.url)
        assert pasted != snippet
        run = await asyncio.create_subprocess_exec(
            *command, pasted, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        out, errors = await run.communicate()
    assert run.returncode == 0, errors.decode()
    said = out.decode()
    if "data: " in said:
        said = content_of(read_events(said))
    assert "SAI simulator: you wrote" in said


@pytest.mark.parametrize(
    ("text", "header", "nothing"),
    [(REFERENCE, "| Variable | Default", "none"), (SPANISH, "| Variable | Por", "ninguno")],
)
def test_the_configuration_table_has_every_variable_with_its_default(text: str, header: str, nothing: str) -> None:
    documented = {name: row[1] for row in rows(text, header) for name in names(row[0])}
    special = {
        "SAI_URL",
        "SAI_TEMPLATE_ID",
        "SAI_KEY",
        "SAI_COOKIE",
        "SAI_MODELS",
        "ACCESS_TOKENS",
        "PLACEHOLDER_KEYS",
        "CORS_ORIGINS",
        "RETRY_STATUSES",
        "SAI_TEMPLATE_INPUTS",
        "RESPONSES_STORE",
        "KEY_ID_SALT",
        "TRUSTED_PROXIES",
        "WORKERS",
    }
    assert set(documented) == special | set(PLAIN_VARIABLES)
    shown = dict(
        line.split("=", 1)
        for line in shown_settings(read_settings(environment("http://sai", MAX_RETRIES="", MESSAGES_LANG="")))
    )
    for name in (*PLAIN_VARIABLES, "RETRY_STATUSES"):
        default = shown[name].replace("(not set)", nothing)
        assert documented[name].strip("`") == default, name


@pytest.mark.parametrize(
    ("text", "header"),
    [(REFERENCE, "| Status | Code | When |"), (ENGLISH, "| Status | Code | Cause |"), (SPANISH, "| Estado | Código |")],
)
def test_the_errors_table_has_every_status_and_code(text: str, header: str) -> None:
    documented = [(int(row[0]), code) for row in rows(text, header) for code in names(row[1]) or [""]]
    assert set(documented) == {(row.status, row.code or "") for row in ERROR_TABLE.values()}
    assert len(set(documented)) == len(documented)


@pytest.mark.parametrize(
    ("header", "wire", "parameters"),
    [
        ("| Chat field | Treatment | Why |", ChatCompletionRequest, CHAT_PARAMETERS),
        ("| Completion field | Treatment | Why |", CompletionRequest, COMPLETION_PARAMETERS),
        ("| Responses field | Treatment | Why |", ResponsesRequest, RESPONSES_PARAMETERS),
    ],
)
def test_the_parameter_tables_have_every_field_of_the_requests(
    header: str, wire: type[msgspec.Struct], parameters: dict[str, Treatment]
) -> None:
    documented = {
        name.strip("`"): (how, why)
        for table in ([header] if wire is ResponsesRequest else ["| Field | Treatment | Why |", header])
        for name, how, why in rows(REFERENCE, table)
    }
    assert documented == {name: tuple(treatment) for name, treatment in parameters.items()}
    assert set(parameters) == set(wire.__struct_fields__)


def anchors(path: Path) -> set[str]:
    """Of a text's headings, as they are linked to."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(
    "text",
    ["README.md", "CHANGELOG.md", *(str(path.relative_to(ROOT)) for path in sorted((ROOT / "docs").rglob("*.md")))],
)
def test_every_link_leads_somewhere(text: str) -> None:
    path = ROOT / text
    links = re.findall(r"\]\((?!http)([^)#]*)(?:#([^)]*))?\)", path.read_text())
    for file, anchor in links:
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), file
        assert not anchor or anchor in anchors(target), anchor
