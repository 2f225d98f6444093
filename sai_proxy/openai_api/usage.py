"""The `usage` object of chat completions and completions."""

from msgspec import Struct

from sai_proxy.conversation.chat import Usage
from sai_proxy.conversation.tokens import estimate_tokens


class PromptDetails(Struct):
    cached_tokens: int = 0
    audio_tokens: int = 0


class CompletionDetails(Struct):
    reasoning_tokens: int = 0
    audio_tokens: int = 0
    accepted_prediction_tokens: int = 0
    rejected_prediction_tokens: int = 0


class UsageBody(Struct):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails


def usage_body(prompt_tokens: int, completion_tokens: int) -> UsageBody:
    """The total is the sum, since SAI gives none."""
    return UsageBody(
        prompt_tokens, completion_tokens, prompt_tokens + completion_tokens, PromptDetails(), CompletionDetails()
    )


def complete_usage(
    reported: Usage, prompt_chars: int, completion_chars: int, *, cut: bool = False
) -> tuple[int, int, bool]:
    """Prompt and completion tokens, and whether either is an estimate, for want of SAI's number or
    because it counts more than the client has got (`cut`)."""
    prompt = reported.prompt_tokens
    completion = None if cut else reported.completion_tokens
    return (
        estimate_tokens(prompt_chars) if prompt is None else prompt,
        estimate_tokens(completion_chars) if completion is None else completion,
        prompt is None or completion is None,
    )
