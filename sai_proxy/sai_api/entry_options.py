"""What may stand behind the `@` of an entry of SAI_MODELS, on the roads of which little is documented: each switches
one assumption, and several are joined by `+`. Pure."""

from collections.abc import Mapping

from msgspec.structs import replace

from sai_proxy.conversation.abilities import ANY_CREDENTIAL, Abilities

CREDENTIALS: Mapping[str, frozenset[str]] = {
    "key": frozenset({"key"}),
    "cookie": frozenset({"cookie"}),
    "both": frozenset(ANY_CREDENTIAL),
}


def read_options(override: str | None, allowed: frozenset[str]) -> frozenset[str] | None:
    """The options in an entry, None if one of them is not allowed, or two contradict each other."""
    options = frozenset(override.split("+")) if override else frozenset()
    if not options <= allowed | CREDENTIALS.keys() or len(options & CREDENTIALS.keys()) > 1:
        return None
    return options


def with_options(can: Abilities, options: frozenset[str]) -> Abilities:
    """The abilities that all roads can be told to have, or not to have."""
    for name, kinds in CREDENTIALS.items():
        if name in options:
            can = replace(can, credentials=kinds)
    return replace(can, sampling=frozenset()) if "no-sampling" in options else can
