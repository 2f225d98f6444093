import json
from datetime import UTC, datetime
from typing import Any

import pytest

from sai_proxy.conversation.chat import ChatMessage, Route, Usage
from sai_proxy.credentials import Credential
from sai_proxy.sai_api import readers, template

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


USER = Credential("key", "user", "the-users-key")


def payload(*messages: tuple[str, str]) -> dict[str, Any]:
    conversation = tuple(ChatMessage(role, (text,)) for role, text in messages)
    decoded: dict[str, Any] = json.loads(template.build_payload(conversation, 1000))
    return decoded


def test_the_payload_has_system_user_and_history() -> None:
    assert payload(
        ("system", "a"), ("system", "b"), ("user", "1"), ("assistant", ""), ("system", "late"), ("user", "2")
    ) == {
        "inputs": {"system": "a\n\nb", "user": "2"},
        "chatMessages": [
            {"content": "1", "role": "user", "id": 1000},
            {"content": "", "role": "assistant", "id": 1001},
            {"content": "late", "role": "system", "id": 1002},
            {"content": "2", "role": "user", "id": 1003},
        ],
    }


def test_without_a_system_message_its_input_is_empty() -> None:
    assert payload(("user", "1"))["inputs"] == {"system": "", "user": "1"}


def test_system_messages_alone_have_no_history() -> None:
    assert payload(("system", "a"), ("system", "b")) == {"inputs": {"system": "a\n\nb", "user": "b"}}


def test_text_parts_are_joined_by_newlines() -> None:
    conversation = (ChatMessage("user", ("a", "b")),)
    assert json.loads(template.build_payload(conversation, 0))["inputs"]["user"] == "a\nb"


def test_the_url_carries_an_encoded_override() -> None:
    assert template.execute_url("https://s", Route("t1")) == "https://s/api/templates/t1/execute"
    assert template.execute_url("https://s", Route("t1", "a/b c&d")).endswith("?modelOverride=a%2Fb%20c%26d")


@pytest.mark.parametrize(
    ("prompt", "completion", "usage"),
    [
        ("12", "0", Usage(12, 0)),
        (None, None, Usage(None, None)),
        ("", "7", Usage(None, 7)),
        ("-1", "many", Usage(None, None)),
        ("1.5", "9999999999", Usage(None, None)),
        ("²", " 5 ", Usage(None, 5)),
    ],
)
def test_usage_is_read_where_it_is_sensible(prompt: str | None, completion: str | None, usage: Usage) -> None:
    headers = {"prompttokens": prompt, "completiontokens": completion}
    assert readers.read_usage({k: v for k, v in headers.items() if v is not None}) == usage
