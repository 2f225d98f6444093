import pytest

from sai_proxy.conversation.ide_prompt import unwrap

BEFORE = "Determine if the following context is required to solve the task in the user's input in the chat session: \""


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        (BEFORE + 'Fix the bug"\nContext:\nclass A: ...', "Fix the bug"),
        (BEFORE + 'two\nlines "quoted""\nContext: x', 'two\nlines "quoted"'),
        (BEFORE + '"\nContext:', ""),
        (BEFORE + 'first"\nContext: print("x"\nContext: y', "first"),
        (BEFORE + "no end", None),
        (" " + BEFORE + 'x"\nContext:', None),
        ('Fix the bug"\nContext:', None),
        ("", None),
    ],
)
def test_a_wrapped_text_yields_what_stands_between(text: str, plain: str | None) -> None:
    assert unwrap(text) == plain
