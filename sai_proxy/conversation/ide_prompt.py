"""Messages that an IDE plugin has wrapped in a prompt of its own, and what the user really wrote.

Source: the predecessor's unwrapping; the plugin that writes this form is JetBrains AI Assistant.
"""

from typing import NamedTuple


class Wrapper(NamedTuple):
    """The user's text stands between `before`, at the very start, and the first `after`."""

    before: str
    after: str


WRAPPERS = (
    Wrapper(
        before="Determine if the following context is required to solve the task "
        "in the user's input in the chat session: \"",
        after='"\nContext:',
    ),
)


BEGINNINGS = tuple(wrapper.before for wrapper in WRAPPERS)
"""One of them begins every wrapped text."""


def unwrap(text: str) -> str | None:
    """The user's own text, or None if no known plugin has wrapped it."""
    for wrapper in WRAPPERS:
        if text.startswith(wrapper.before):
            start = len(wrapper.before)
            end = text.find(wrapper.after, start)
            if end >= 0:
                return text[start:end]
    return None
