"""The check of answers against OpenAI's schemas, which the other tests rely on."""

import json
from pathlib import Path

import jsonschema
import pytest

from tests.support import SCHEMAS, check_schema


def test_an_answer_that_lacks_a_field_is_found() -> None:
    with pytest.raises(jsonschema.ValidationError):
        check_schema("chat_completion", {"id": "x", "choices": []})


@pytest.mark.parametrize("path", sorted(SCHEMAS.glob("*.json")), ids=lambda path: path.stem)
def test_the_schemas_are_schemas(path: Path) -> None:
    jsonschema.Draft202012Validator.check_schema(json.loads(path.read_text()))
