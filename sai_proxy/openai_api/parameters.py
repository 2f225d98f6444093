"""What becomes of each documented field of a request, and why: the table behind the README's.

The rule: a field that only steers sampling or bookkeeping is ignored; one that promises something
about the answer is honoured, emulated, or refused with 400. Nothing is pretended.
"""

from typing import Literal, NamedTuple

How = Literal["honoured", "emulated", "ignored", "refused"]


class Treatment(NamedTuple):
    how: How
    why: str


_SAMPLING = Treatment("ignored", "sampling belongs to SAI's template")
_BOOKKEEPING = Treatment("ignored", "bookkeeping of OpenAI's; SAI has no place for it")
_TOOLS = Treatment("emulated", "the model is asked in text, and its text read: see docs/tools.md")
_NO_PROBABILITIES = Treatment("refused", "SAI gives no probabilities; `false` and 0 pass")
_TEXT_ONLY = Treatment("refused", "SAI answers with text only")

_COMMON: dict[str, Treatment] = {
    "model": Treatment("honoured", "one of `SAI_MODELS`"),
    "stream": Treatment("honoured", "at SAI's own pace"),
    "stream_options": Treatment("honoured", "`include_usage`; obfuscation is never sent"),
    "n": Treatment("emulated", "1 to 8: as many calls to SAI at once; usage is their sum"),
    "stop": Treatment("emulated", "a string or up to 16: the proxy cuts, and ends the call to SAI"),
    "max_tokens": Treatment("emulated", "the proxy cuts at 4 characters a token, and ends the call to SAI"),
    "logit_bias": Treatment("refused", "SAI cannot; an empty map passes"),
    "temperature": _SAMPLING,
    "top_p": _SAMPLING,
    "frequency_penalty": _SAMPLING,
    "presence_penalty": _SAMPLING,
    "seed": _SAMPLING,
    "user": _BOOKKEEPING,
    "litellm_params": Treatment("honoured", "`metadata.user_api_key` is the user's SAI key; nothing of it reaches SAI"),
}

CHAT_PARAMETERS: dict[str, Treatment] = {
    **_COMMON,
    "messages": Treatment("honoured", "text parts; images, audio and files are refused"),
    "max_completion_tokens": Treatment("emulated", "as `max_tokens`, over which it wins"),
    "response_format": Treatment(
        "emulated", "the model is asked for JSON, which is checked, and asked for once more if it does not fit"
    ),
    "tools": _TOOLS,
    "tool_choice": _TOOLS,
    "functions": _TOOLS,
    "function_call": _TOOLS,
    "parallel_tool_calls": Treatment("emulated", "`false`: the first call counts"),
    "logprobs": _NO_PROBABILITIES,
    "top_logprobs": _NO_PROBABILITIES,
    "modalities": Treatment("refused", 'SAI answers with text only; `["text"]` passes'),
    "audio": _TEXT_ONLY,
    "web_search_options": Treatment("refused", "SAI's template decides what it looks up"),
    "reasoning_effort": _SAMPLING,
    "verbosity": _SAMPLING,
    "prediction": Treatment("ignored", "a hint for speed"),
    "moderation": _BOOKKEEPING,
    "metadata": _BOOKKEEPING,
    "store": _BOOKKEEPING,
    "service_tier": _BOOKKEEPING,
    "safety_identifier": _BOOKKEEPING,
    "prompt_cache_key": _BOOKKEEPING,
    "prompt_cache_options": _BOOKKEEPING,
    "prompt_cache_retention": _BOOKKEEPING,
}

COMPLETION_PARAMETERS: dict[str, Treatment] = {
    **_COMMON,
    "prompt": Treatment("honoured", "a string, or up to 32 of them, one choice each; token ids are refused"),
    "max_tokens": Treatment(
        "emulated", "as in chat; OpenAI's default of 16 is not applied: without it the answer is whole"
    ),
    "suffix": Treatment("emulated", "SAI is told to write what stands between prompt and suffix"),
    "echo": Treatment("emulated", "the prompt goes before the text"),
    "best_of": Treatment("refused", "SAI gives no probabilities to choose by; a value equal to `n` passes"),
    "logprobs": _NO_PROBABILITIES,
}

RESPONSES_PARAMETERS: dict[str, Treatment] = {
    "model": _COMMON["model"],
    "input": Treatment(
        "honoured", "a string or items; an image of a user's is refused, one in a tool's output becomes a note"
    ),
    "instructions": Treatment("honoured", "a system message before all others"),
    "stream": _COMMON["stream"],
    "stream_options": Treatment("ignored", "obfuscation is never sent"),
    "max_output_tokens": Treatment("emulated", "as `max_tokens` in chat; a cut answer is `incomplete`"),
    "tools": Treatment(
        "emulated", "functions, custom tools and namespaces of them; tools that OpenAI would run are left out"
    ),
    "tool_choice": _TOOLS,
    "parallel_tool_calls": CHAT_PARAMETERS["parallel_tool_calls"],
    "max_tool_calls": Treatment("ignored", "it counts tools that OpenAI runs"),
    "text": Treatment("emulated", "`format` as `response_format` in chat; `verbosity` is ignored"),
    "previous_response_id": Treatment("honoured", "an answer that is still kept"),
    "store": Treatment("honoured", "`false`: nothing of it is kept"),
    "truncation": Treatment("honoured", "`auto`: the oldest messages of a conversation that is too long are left out"),
    "include": Treatment("ignored", "but `message.output_text.logprobs` is refused: SAI gives no probabilities"),
    "reasoning": _SAMPLING,
    "metadata": Treatment("honoured", "told back"),
    "conversation": Treatment("refused", "conversations are not kept here; send `previous_response_id` or all items"),
    "prompt": Treatment("refused", "prompts that are stored at OpenAI are not here"),
    "background": Treatment("refused", "an answer lives as long as its request; `false` passes"),
    "top_logprobs": _NO_PROBABILITIES,
    "temperature": _SAMPLING,
    "top_p": _SAMPLING,
    "context_management": Treatment("ignored", "clients shorten their conversations themselves"),
    "moderation": _BOOKKEEPING,
    "client_metadata": _BOOKKEEPING,
    "service_tier": _BOOKKEEPING,
    "user": _BOOKKEEPING,
    "safety_identifier": _BOOKKEEPING,
    "prompt_cache_key": _BOOKKEEPING,
    "prompt_cache_options": _BOOKKEEPING,
    "prompt_cache_retention": _BOOKKEEPING,
    "litellm_params": _COMMON["litellm_params"],
}


def ignored_names(parameters: dict[str, Treatment]) -> tuple[str, ...]:
    return tuple(name for name, treatment in parameters.items() if treatment.how == "ignored")
