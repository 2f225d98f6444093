"""Names of variables that look like one of ours and are none: a typing mistake that would pass silently."""

from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from typing import NamedTuple

ALIKE = 0.84
"""How alike two names have to be: one letter more, less or another in a short one."""

ELSEWHERE = frozenset(
    {
        *("SAI_PROXY_IMAGE", "SAI_KEY_SECRET", "SAI_COOKIE_SECRET", "PYTHON_IMAGE", "EXTRAS", "REPLICAS", "TZ"),
        *("STOP_GRACE_PERIOD", "NODE_ROLE", "ANSWERS_IMAGE", "ANSWERS_MEMORY", "PROMETHEUS_IMAGE", "PROMETHEUS_PORT"),
        *("GRAFANA_IMAGE", "GRAFANA_PORT", "GRAFANA_PASSWORD", "MONITORING_VERSION", "UID", "GID", "LOG_DIR"),
    }
)
"""What the Compose and stack files, and this project's own tools, read beside the server."""

DANGEROUS = frozenset({"ACCESS_TOKENS", "ACCESS_TOKENS_FILE"})
"""Without them the server is open: a mistake in these stops the start."""


class Misspelt(NamedTuple):
    """A name, where it stands, and the one that was probably meant, if any."""

    name: str
    place: str
    meant: str | None

    @property
    def dangerous(self) -> bool:
        return self.meant in DANGEROUS

    def __str__(self) -> str:
        hint = f"; did you mean {self.meant}?" if self.meant else ""
        return f"{self.name}: unknown variable in {self.place}{hint}"


def misspelt_names(
    environment: Iterable[str], file: Mapping[str, str], file_name: str, known: Collection[str]
) -> list[Misspelt]:
    """Unknown names of an `.env` file, and those of the environment that are much like a known one.

    environment: names that are set there. file: of the `.env` file.
    """
    found = [Misspelt(name, file_name, _meant(name, known)) for name in sorted(file) if _is_unknown(name, known)]
    for name in sorted(set(environment) - file.keys()):
        meant = _meant(name, known) if _is_unknown(name, known) else None
        if meant is not None:
            found.append(Misspelt(name, "the environment", meant))
    return found


def _is_unknown(name: str, known: Collection[str]) -> bool:
    return name not in known and name not in ELSEWHERE and not name.startswith(("OTEL_", "COMPOSE_", "DOCKER_"))


def _meant(name: str, known: Collection[str]) -> str | None:
    close = get_close_matches(name.upper(), known, n=1, cutoff=ALIKE)
    return close[0] if close else None
