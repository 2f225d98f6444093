"""Instructor, in the mode that asks for JSON in the prompt alone; `test_tool_loops.py` has the others.

It hands out nothing before the JSON is complete in that mode, so there is no early end to try.
"""

import json
from typing import Any

import pytest

from tests.clients.background import Background
from tests.clients.contract import KEY, TEXT
from tests.support import Proxy

instructor = pytest.importorskip("instructor", reason="requirements/clients.lock is not installed")

import openai  # noqa: E402
from pydantic import BaseModel  # noqa: E402


class Note(BaseModel):
    text: str


ANSWER = "```json\n" + json.dumps({"text": TEXT}) + "\n```"


def directive(text: str, more: str = "") -> list[dict[str, str]]:
    return [{"role": "user", "content": f"[[answer={json.dumps(text)}]]{more}"}]


@pytest.fixture
def client(served: Proxy) -> Any:
    plain = openai.OpenAI(base_url=served.url + "/v1", api_key=KEY, max_retries=0)
    return instructor.from_openai(plain, mode=instructor.Mode.MD_JSON)


OPTIONS: dict[str, Any] = {"model": "sai-model", "response_model": Note, "max_retries": 1}


def test_a_plain_answer_and_its_usage(client: Any, world: Background) -> None:
    note, answer = client.chat.completions.create_with_completion(
        messages=directive(ANSWER, "[[usage=12,34]]"), **OPTIONS
    )
    assert note.text == TEXT
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (12, 34)
    assert world.sai.calls[-1].key == KEY


def test_a_streamed_answer_is_the_exact_text_in_pieces(client: Any) -> None:
    notes = list(
        client.chat.completions.create_partial(messages=directive(ANSWER, "[[split=3]][[delay=0.002]]"), **OPTIONS)
    )
    assert notes[-1].text == TEXT
    assert len(notes) > 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 500])
def test_an_error_is_passed_on_with_its_status(client: Any, status: int) -> None:
    with pytest.raises(Exception, match="Error code: ") as caught:
        client.chat.completions.create(messages=[{"role": "user", "content": f"[[status={status}]]"}], **OPTIONS)
    assert f"Error code: {502 if status == 500 else status}" in str(caught.value)


def test_an_answer_that_breaks_off_raises(client: Any) -> None:
    with pytest.raises(Exception, match="cut off"):
        list(
            client.chat.completions.create_partial(
                messages=directive(ANSWER, "[[split=1]][[delay=0.005]][[reset=middle]]"), **OPTIONS
            )
        )
