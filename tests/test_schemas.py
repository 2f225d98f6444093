import jsonschema
import pytest

from tests.support import SCHEMAS, check_schema


def test_answers_of_this_run_were_checked_against_openais_schemas() -> None:
    """And the check can fail."""
    if not SCHEMAS.is_dir():
        pytest.skip(f"no schemas of OpenAI's answers at {SCHEMAS}: no answer was checked against them")
    with pytest.raises(jsonschema.ValidationError):
        check_schema("chat_completion", {"id": "x", "choices": []})
