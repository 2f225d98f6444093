"""Framing of server-sent events, in the narrow form that every known client reads.

One `data:` line and a blank line an event; no `id:` or `retry:` line and no empty data, each of which some SDK
fails on, and an `event:` line only where OpenAI has one. A keep-alive is a comment with one newline: a blank
line after a comment ends the stream of some Go clients.
"""

CONTENT_TYPE = "text/event-stream"
HEADERS = {"Content-Type": CONTENT_TYPE, "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}

KEEP_ALIVE = b": keep-alive\n"
DONE = b"data: [DONE]\n\n"


def event(data: bytes) -> bytes:
    """One event. `data` is JSON without raw newlines."""
    return b"data: " + data + b"\n\n"


def typed_event(kind: str, data: bytes) -> bytes:
    """One event of the Responses API, whose kind stands beside its data, too."""
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)
