"""Token estimates: the one place that says how many characters make a token."""

CHARS_PER_TOKEN = 4
"""The predecessor's estimate, and its users' expectation of where the context limit lies."""


def estimate_tokens(chars: int) -> int:
    """Tokens in a text of `chars` code points, rounded up."""
    return -(-chars // CHARS_PER_TOKEN)
