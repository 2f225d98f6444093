"""Checking values against JSON Schemas, by a library whose regular expressions are bounded in time and which
looks nothing up outside. Pure."""

import json
from functools import lru_cache
from typing import Any

MAX_PROBLEM_CHARS = 300
_MAX_BACKTRACKS = 100_000
"""Of a pattern with lookaround, as pydantic writes them; all others take linear time."""


class InvalidSchemaError(ValueError):
    """A schema that is none, or that cannot be checked; its words are fit for a client."""


class Validator:
    """Of one schema. Raises InvalidSchemaError."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self._validator = _compile(json.dumps(schema))

    def problem(self, text: str) -> str | None:
        """What is wrong with JSON text, None if nothing is."""
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as exc:
            return f"it is not valid JSON ({_short(str(exc))})"
        error = next(iter(self._validator.iter_errors(value)), None)
        if error is None:
            return None
        place = "/".join(map(str, error.instance_path))
        return f"at /{place}: {_short(error.message)}"


@lru_cache(maxsize=256)
def _compile(schema: str) -> Any:
    """A validator, kept, since agents send the same schemas with every request."""
    import jsonschema_rs

    try:
        return jsonschema_rs.validator_for(
            json.loads(schema),
            offline=True,
            pattern_options=jsonschema_rs.FancyRegexOptions(backtrack_limit=_MAX_BACKTRACKS),
        )
    except (ValueError, RecursionError) as exc:  # ValidationError and ReferencingError are such
        raise InvalidSchemaError(_short(str(exc))) from None


def json_problem(text: str) -> str | None:
    """What is wrong with text that has to be one JSON object or array; None if nothing is."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as exc:
        return f"it is not valid JSON ({_short(str(exc))})"
    return None if isinstance(value, dict | list) else "it is no JSON object"


def _short(text: str) -> str:
    first = " ".join(text.split())
    return first if len(first) <= MAX_PROBLEM_CHARS else first[:MAX_PROBLEM_CHARS] + "..."
