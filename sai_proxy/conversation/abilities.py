"""What a road to a model can by itself. What it cannot is emulated, or refused; nobody asks which road it is."""

from typing import Literal

from msgspec import Struct

ToolAbility = Literal["native", "emulated", "read"]
CredentialKind = Literal["key", "cookie"]
ANY_CREDENTIAL: frozenset[CredentialKind] = frozenset({"key", "cookie"})


class Abilities(Struct, frozen=True, kw_only=True):
    """tools: `native` if calls come as such, `emulated` if they are asked for and read in text, `read` if the
        template itself asks for them, and they are only read.
    images: whether it reads them. live: whether its text comes as the model writes it.
    sampling: OpenAI's names of the parameters that it takes.
    credentials: the kinds that it lets in.
    """

    tools: ToolAbility = "emulated"
    images: bool = False
    live: bool = False
    sampling: frozenset[str] = frozenset()
    credentials: frozenset[CredentialKind] = ANY_CREDENTIAL
