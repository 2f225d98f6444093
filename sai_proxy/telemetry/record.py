"""What there is to say of one request when it ends: the material of its log line."""

from msgspec import Struct

CLIENT_CLOSED_REQUEST = 499
"""nginx' status for a client that left before its answer was complete; it is never sent."""

CLIENT_STALLED = "client_stalled"
"""The error of a client that was cut off, since it did not read its answer for too long."""

PROBES = ("/health", "/metrics")
"""What machines ask, every few seconds."""


class RequestRecord(Struct):
    """Filled on the way by whoever learns something. Times are seconds of the monotonic clock, which is the loop's.

    admitted: whether it was let in, to a model.
    client: the address of whoever asks. user_agent: what they say they are. key_id: a short keyed hash of their own
        credential, by which usage can be added up. asked_model: as the body says, if it was refused before that was
        looked at.
    road: which of SAI's endpoints is asked.
    roles: how many messages of each role. chars: characters of all messages, after unwrapping.
    credential: source and kind of the last one tried, such as `user_key`; never a value. key_place:
        where the user's own key stood (`body`, a header's name, `bearer`).
    told: what the client was told of it; for terminals alone.
    param: the place in the request that was wrong.
    fault: whose a failure was: `caller`, `policy`, `sai` or `proxy`. guarded: the guard answered.
    ignored_keys: places that held no key, and why: `bearer: placeholder`.
    upload_s, sai_wait_s: seconds spent waiting for the request's body, and for SAI.
    retries: attempts that repeated an earlier one.
    left_out_tools: types of tools that the request offered and that nobody here runs.
    truncated: how many of the oldest messages were left out, as the client wanted for a conversation too long.
    call_forms: tool calls that were read from text, by how they were written. call_repairs: of how many the
        JSON was mended. call_misreadings: what looked like a call and was none. second_asks: how often the
        model was asked once more for what was demanded.
    """

    started: float
    admitted: bool = False
    client: str | None = None
    user_agent: str | None = None
    key_id: str | None = None
    model: str | None = None
    asked_model: str | None = None
    road: str | None = None
    sai_model: str | None = None
    stream: bool | None = None
    messages: int | None = None
    left_out_tools: list[str] | None = None
    roles: dict[str, int] | None = None
    chars: int | None = None
    truncated: int = 0
    unwrapped: int = 0
    credential: str | None = None
    key_place: str | None = None
    ignored_keys: list[str] | None = None
    attempts: int = 0
    fallback: bool = False
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    usage_estimated: bool | None = None
    first_byte: float | None = None
    finish_reason: str | None = None
    error: str | None = None
    told: str | None = None
    param: str | None = None
    fault: str | None = None
    guarded: bool = False
    retries: int = 0
    upload_s: float | None = None
    sai_wait_s: float = 0.0
    call_forms: dict[str, int] | None = None
    call_repairs: int = 0
    call_misreadings: int = 0
    second_asks: int = 0
    client_disconnected: bool = False
