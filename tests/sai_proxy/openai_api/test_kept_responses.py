import json

import pytest
from msgspec import Raw

from sai_proxy import errors
from sai_proxy.openai_api.kept_responses import (
    MAX_ANCESTORS,
    MAX_OBJECTS,
    MAX_RECALLED_BYTES,
    MAX_REFERENCES,
    ItemIndex,
    Kept,
    ancestors_of,
    input_items,
    lineage,
    references,
)
from sai_proxy.openai_api.messages import MAX_MESSAGES
from sai_proxy.openai_api.responses_endpoint import ResponsesEndpoint
from tests.sai_proxy.openai_api.responses import CALL, DIGITS, MODELS, keeping, kept_of, messages, read, text, user


def test_a_conversation_goes_on_from_a_kept_answer() -> None:
    first = kept_of("1" * 48, [user(text("one"))], "ONE")
    second = kept_of("2" * 48, [user(text("two"))], "TWO", first.id)
    recalled = {first.id: first, second.id: second}
    said = messages("three", recalled, previous_response_id=second.id, instructions="now")
    assert said == [
        ("system", "now"),
        ("user", "one"),
        ("assistant", "ONE"),
        ("user", "two"),
        ("assistant", "TWO"),
        ("user", "three"),
    ]
    with pytest.raises(errors.PreviousResponseNotFound):  # without any of its ancestors it is another conversation
        messages("three", {second.id: second}, previous_response_id=second.id)


def test_a_reference_stands_for_its_item() -> None:
    kept = kept_of("1" * 48, [user(text("one"))], "ONE")
    mine, asked = f"msg_{'1' * 48}00", f"msg_{'1' * 48}i00"
    references = [{"type": "item_reference", "id": name} for name in (asked, mine)]
    assert messages([*references, user(text("two"))], {kept.id: kept}) == [
        ("user", "one"),
        ("assistant", "ONE"),
        ("user", "two"),
    ]
    assert ItemIndex({kept.id: kept}).item(f"msg_{'1' * 48}07", "input") is None


def test_what_is_kept_of_a_request_has_references_replaced_and_only_what_was_new() -> None:
    first = kept_of("1" * 48, [user(text("one"))], "ONE")
    body = {"input": [{"type": "item_reference", "id": f"msg_{'1' * 48}00"}, user(text("two"))]}
    kept = keeping(body, {first.id: first})
    assert [json.loads(bytes(item))["role"] for item in input_items(kept)] == ["assistant", "user"]
    kept = keeping({"input": "two", "previous_response_id": first.id}, {first.id: first})
    assert kept.ancestors == (first.id,)
    (item,) = input_items(kept)
    assert json.loads(bytes(item)) == {
        "type": "message",
        "role": "user",
        "content": [{"type": "input_text", "text": "two"}],
        "id": f"msg_{DIGITS}i00",
        "status": "completed",
    }


def test_nothing_is_kept_that_shall_not_be() -> None:
    endpoint = ResponsesEndpoint(MODELS, lambda: (DIGITS, 1), keeps=True)
    answer = endpoint.parse(b'{"model":"sai-model","input":"x","store":false}').answer
    assert answer.kept() is None


def test_references_are_found_however_they_are_written_and_only_there() -> None:
    name = f"msg_{'1' * 48}00"
    found = (None, (f"resp_{'1' * 48}",))
    plain = json.dumps({"input": [{"type": "item_reference", "id": name}]}).encode()
    assert references(plain) == found
    assert references(plain.replace(b"item_r", b"item" + bytes([92]) + b"u005fr")) == found
    words = json.dumps({"input": "item_reference " * 2_000, "previous_response_id": f"resp_{'2' * 48}"}).encode()
    assert references(words) == (f"resp_{'2' * 48}", ())
    for other in (b"{", b"[]", b"item_reference", b'{"input":[1],"x":"item_reference"}', b'{"previous_response_id":5}'):
        assert references(other) == (None, ())


def test_references_are_bounded_in_number_and_in_bytes() -> None:
    kept = kept_of("1" * 48, [user(text("one"))], "ONE")
    many = [{"type": "item_reference", "id": f"msg_{'1' * 48}00"}] * (MAX_REFERENCES + 1)
    with pytest.raises(errors.ArrayTooLong):
        messages(many, {kept.id: kept})
    large = Raw(b'[{"type":"reasoning","x":"' + b"x" * 2_000_000 + b'"}]')
    index = ItemIndex({kept.id: Kept(kept.id, kept.response, large)})
    for _ in range(MAX_RECALLED_BYTES // 2_000_000):
        assert index.item(f"rs_{'1' * 48}i00", "input") is not None
    with pytest.raises(errors.ContextLengthExceeded):
        index.item(f"rs_{'1' * 48}i00", "input")


def test_an_answer_names_only_its_last_ancestors() -> None:
    recalled: dict[str, Kept] = {}
    previous: str | None = None
    for number in range(100):
        ancestors = ancestors_of(previous, recalled) if previous else ()
        assert len(ancestors) <= MAX_ANCESTORS
        kept = kept_of(f"{number:048x}", [user(text(str(number)))], "said", *ancestors)
        recalled[kept.id] = kept
        previous = kept.id
    assert previous is not None
    answers = lineage(previous, recalled)
    assert answers is not None
    assert [kept.id for kept in answers] == list(recalled)
    del recalled[f"resp_{7:048x}"]
    assert lineage(previous, recalled) is None


def test_recalled_items_count_as_messages() -> None:
    kept = kept_of("1" * 48, [{"type": "reasoning"}] * 9_999, "ONE")
    with pytest.raises(errors.ArrayTooLong) as caught:
        messages("x", {kept.id: kept}, previous_response_id=kept.id)
    assert caught.value.param == "previous_response_id"


def test_an_item_that_was_referred_to_twice_has_two_names() -> None:
    item = {"type": "message", "id": "msg_mine", "role": "user", "content": "x"}
    kept = kept_of("1" * 48, [item, item, item], "ONE")
    names = [json.loads(bytes(found))["id"] for found in input_items(kept)]
    assert names[0] == "msg_mine"
    assert len(set(names)) == 3


def test_recalled_calls_and_their_outputs_are_part_of_the_conversation() -> None:
    """A loop of tools sends each output alone, with the id of the answer that has made the call."""
    first = kept_of("1" * 48, [user(text("one")), CALL], "")
    chat = read(
        [{"type": "function_call_output", "call_id": "call_0", "output": "18"}],
        {first.id: first},
        previous_response_id=first.id,
    )
    *_, result = chat.conversations[0]
    assert (result.role, result.text) == ("tool", "18")
    assert result.answers is not None
    assert (result.answers.id, result.answers.name) == ("call_0", "f")


def test_items_of_several_answers_may_be_referred_to() -> None:
    """The AI SDK's third turn."""
    answers = [kept_of(digit * 48, [user(text(digit))], f"said {digit}") for digit in "123"]
    items = [{"type": "item_reference", "id": f"msg_{digit * 48}00"} for digit in "312"]
    body = json.dumps({"input": items}).encode()
    assert references(body) == (None, tuple(f"resp_{digit * 48}" for digit in "123"))
    recalled = {kept.id: kept for kept in answers}
    assert messages(items, recalled) == [("assistant", "said 3"), ("assistant", "said 1"), ("assistant", "said 2")]


def test_an_id_that_no_answer_of_ours_could_have_is_not_looked_up() -> None:
    for name in ("resp_1", "resp_" + "G" * 48, "resp_" + "1" * 47, "*", "resp_" + "1" * 48 + "\n"):
        assert references(json.dumps({"previous_response_id": name}).encode()) == (None, ())


def test_a_bomb_of_objects_refers_to_nothing() -> None:
    reference = json.dumps({"type": "item_reference", "id": f"msg_{'1' * 48}00"})
    assert references(f'{{"input":[{reference}{",{}" * MAX_OBJECTS}]}}'.encode()) == (None, ())


def test_kept_items_are_complete_and_keep_their_names() -> None:
    without_status = {name: value for name, value in CALL.items() if name != "status"}
    kept = kept_of("1" * 48, [without_status, {"role": "assistant", "content": "x"}], "ONE")
    call, said = (json.loads(bytes(item)) for item in input_items(kept))
    assert (call["id"], call["status"]) == ("fc_0", "completed")
    assert (said["type"], said["id"], said["status"]) == ("message", f"msg_{'1' * 48}i01", "completed")
    assert said["content"] == [{"type": "output_text", "text": "x", "annotations": []}]


def test_a_request_has_at_most_so_many_items() -> None:
    few = [{"type": "reasoning"}] * MAX_MESSAGES
    assert messages(few) == [("user", "")]
    with pytest.raises(errors.ArrayTooLong) as caught:
        messages([*few, {"type": "reasoning"}])
    assert caught.value.param == "input"
