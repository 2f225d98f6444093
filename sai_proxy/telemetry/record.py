"""What there is to say of one request when it ends: its log line, and the material of its metrics."""

import json
from typing import Any

import msgspec
from msgspec import Struct, field

CLIENT_CLOSED_REQUEST = 499
"""nginx' status for a client that left before its answer was complete; it is never sent."""

CLIENT_STALLED = "client_stalled"
"""The error of a client that was cut off, since it did not read its answer for too long."""

PROBES = ("/health", "/metrics")
"""What machines ask, every few seconds."""


_NONE_S = 0.0
"""The seconds of what did not come up."""


class RequestRecord(Struct, kw_only=True, omit_defaults=True):
    """Filled on the way by whoever learns something, and written as its log line: all but the last fields, in this
    order; what never came up is left out. Times are seconds, of points in time those of the monotonic clock, which is
    the loop's.

    client: the address of whoever asks. user_agent: what they say they are. key_id: a short keyed hash of their own
        credential, by which usage can be added up.
    road: which of SAI's endpoints is asked.
    left_out_tools: types of tools that the request offered and that nobody here runs.
    roles: how many messages of each role. chars: characters of all messages, after unwrapping.
    truncated: how many of the oldest messages were left out, as the client wanted for a conversation too long.
    credential: source and kind of the last one tried, such as `user_key`; never a value. key_place:
        where the user's own key stood (`body`, a header's name, `bearer`).
    ignored_keys: places that held no key, and why: `bearer: placeholder`.
    param: the place in the request that was wrong.
    fault: whose a failure was: `caller`, `policy`, `sai` or `proxy`.
    call_forms: tool calls that were read from text, by how they were written. call_repairs: of how many the
        JSON was mended. call_misreadings: what looked like a call and was none. second_asks: how often the
        model was asked once more for what was demanded.
    upload_s, sai_wait_s: spent waiting for the request's body, and for SAI.

    Of the others, which are gone when the line is written:
    started, first_byte, ended: when it arrived, SAI's first text did, and all was over. route: the template of its URL,
        of which there are few. admitted: whether it was let in, to a model.
    asked_model: as the body says, if it was refused before that was looked at. told: what the client was told of a
        failure. guarded: the guard answered. retries: attempts that repeated an earlier one.
    """

    time: str | None = None
    level: str | None = None
    host: str | None = None
    logger: str | None = None
    message: str | None = None
    request_id: str | None = None
    method: str | None = None
    path: str | None = None
    status: int = 0
    client: str | None = None
    user_agent: str | None = None
    key_id: str | None = None
    model: str | None = None
    road: str | None = None
    sai_model: str | None = None
    stream: bool | None = None
    messages: int | None = None
    left_out_tools: list[str] | None = None
    roles: dict[str, int] | None = None
    chars: int | None = None
    truncated: int = 0
    unwrapped: int = field(default_factory=int)  # a factory's value is written even if it has not changed
    credential: str | None = None
    key_place: str | None = None
    ignored_keys: list[str] | None = None
    attempts: int = field(default_factory=int)
    fallback: bool = field(default_factory=bool)
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    usage_estimated: bool | None = None
    finish_reason: str | None = None
    error: str | None = None
    param: str | None = None
    fault: str | None = None
    call_forms: dict[str, int] | None = None
    call_repairs: int = 0
    call_misreadings: int = 0
    second_asks: int = 0
    client_disconnected: bool = field(default_factory=bool)
    duration_s: float = _NONE_S
    upload_s: float | None = None
    sai_wait_s: float = _NONE_S
    ttfb_s: float | None = None
    tokens_per_s: float | None = None

    started: float = _NONE_S
    ended: float = _NONE_S
    route: str = ""
    admitted: bool = False
    asked_model: str | None = None
    first_byte: float | None = None
    told: str | None = None
    guarded: bool = False
    retries: int = 0

    def complete(self) -> None:
        """The request has ended: fill in what follows from the rest."""
        duration, completion = self.ended - self.started, self.completion_tokens
        if self.model is None:
            self.model = self.asked_model
        self.duration_s = _rounded(duration)
        if self.upload_s is not None:
            self.upload_s = _rounded(self.upload_s)
        self.sai_wait_s = _rounded(self.sai_wait_s) if self.attempts else _NONE_S
        if self.first_byte is not None:
            self.ttfb_s = _rounded(self.first_byte - self.started)
        if completion and duration > 0:
            self.tokens_per_s = int(completion / duration * 10 + 0.5) / 10

    def forget_all_else(self) -> None:
        """All that is not written; what is nothing is left out."""
        self.started, self.ended, self.route, self.first_byte = _NONE_S, _NONE_S, "", None
        self.admitted, self.asked_model = False, None
        self.told, self.guarded, self.retries = None, False, 0

    def as_json(self) -> bytes:
        """The line, without its end."""
        try:
            return _encoder.encode(self)
        except UnicodeEncodeError:  # a lone surrogate, from odd bytes in a URL
            return json.dumps(self.shown()).encode()

    def shown(self) -> dict[str, Any]:
        """The line's fields by their names."""
        fields: dict[str, Any] = msgspec.to_builtins(self)
        return fields


_encoder = msgspec.json.Encoder()


def _rounded(seconds: float) -> float:
    """To a tenth of a millisecond; Python's own rounding goes through decimal digits."""
    return int(seconds * 10_000 + 0.5) / 10_000
