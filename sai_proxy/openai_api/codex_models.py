"""What Codex CLI wants to know of a model beside OpenAI's list, if it is told to ask for it.

With it Codex takes the server's word for the size of the context, so that it shortens its conversation in time, and
for its own instructions, which are 17 kB otherwise. Source: Codex CLI 0.169, which refuses an entry that lacks most
of these fields.
"""

from collections.abc import Iterable

from msgspec import Struct

INSTRUCTIONS = """\
You are a coding agent. You work on the user's machine, in the user's folder, by the tools that you are given: you do \
what is asked, and do not only describe it.

- Look before you change: list the folder, read the files that matter, run the tests that are there.
- Make the smallest change that does what is asked, in the style of the code around it. Leave what works alone.
- Write and change files by shell commands. Of a long file change the lines concerned, and look at the result.
- After a change run what shows that it works. If a command fails, read its output and try something else; never \
repeat what has failed without a change.
- Do not commit, push, install or delete anything that was not asked for.
- Answer in the user's language. At the end say in a few sentences what you have changed and how you checked it, and \
what is left.
"""


class TruncationPolicy(Struct, frozen=True):
    mode: str = "bytes"
    limit: int = 10_000


class CodexModel(Struct, kw_only=True):
    slug: str
    display_name: str
    description: str = "A SAI template."
    default_reasoning_level: str = "medium"
    supported_reasoning_levels: tuple[()] = ()
    shell_type: str = "unified_exec"
    visibility: str = "list"
    supported_in_api: bool = True
    priority: int = 1
    availability_nux: None = None
    upgrade: None = None
    base_instructions: str = INSTRUCTIONS
    supports_reasoning_summaries: bool = False
    support_verbosity: bool = False
    default_verbosity: None = None
    apply_patch_tool_type: str | None = None
    truncation_policy: TruncationPolicy = TruncationPolicy()
    supports_parallel_tool_calls: bool = True
    context_window: int
    experimental_supported_tools: tuple[()] = ()


def codex_models(ids: Iterable[str], context_window: int) -> list[CodexModel]:
    """context_window: tokens."""
    return [CodexModel(slug=name, display_name=name, context_window=context_window) for name in ids]
