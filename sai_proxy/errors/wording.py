"""Values for the placeholders of the error table's wordings."""

_CREDENTIALS: dict[tuple[str, str], dict[str, str]] = {
    ("user", "key"): {"es": "la API Key proporcionada", "en": "the API key given (the user's key)"},
    ("user", "cookie"): {"es": "la cookie de sesión proporcionada", "en": "the session cookie given (the user's)"},
    ("system", "key"): {"es": "la API Key del sistema", "en": "the system's API key"},
    ("system", "cookie"): {"es": "la cookie de sesión del sistema", "en": "the system's session cookie"},
}

_OWN_KEY = {
    "own_key_es": ", o usa tu propia API Key de SAI",
    "own_key_en": ", or use a SAI API key of your own",
}


def credential_facts(source: str, kind: str) -> dict[str, str]:
    """Facts for the wordings that name the credential which was used, never its value: at the start
    of a sentence and (`_mid`) inside one."""
    facts = dict(_OWN_KEY) if source == "system" else dict.fromkeys(_OWN_KEY, "")
    for language, name in _CREDENTIALS[source, kind].items():
        facts[f"credential_{language}"] = name[0].upper() + name[1:]
        facts[f"credential_{language}_mid"] = name
    return facts


def credential_kind_facts(kind: str) -> dict[str, str]:
    """Facts for a model that lets only one kind of credential in, of which there is none."""
    if kind == "cookie":
        return {
            "needed_es": "una cookie de sesión de SAI: SAI_COOKIE, o la tuya como 'x-user-api-key'",
            "needed_en": "a SAI session cookie: SAI_COOKIE, or yours as 'x-user-api-key'",
        }
    return {
        "needed_es": "una API Key de SAI: SAI_KEY, o la tuya como 'Authorization: Bearer'",
        "needed_en": "a SAI API key: SAI_KEY, or yours as 'Authorization: Bearer'",
    }


def context_facts(tokens: int, limit: int) -> dict[str, str | int]:
    """Facts for a conversation that the guard measured, in estimated tokens. In small numbers, since there are
    agents that take a 429 or 500 anywhere in a text for a status, and ask again."""
    over = tokens / limit
    if over < 2:
        percent = max(round(100 * (over - 1)), 1)
        return {"size_es": f": un {percent} % sobre el límite", "size_en": f": {percent} % over the limit"}
    times = f"{over:.1f}" if over < 100 else "100"
    return {"size_es": f": unas {times} veces el límite", "size_en": f": about {times} times the limit"}


def timeout_facts(seconds: float) -> dict[str, str]:
    """Facts for a deadline of ours that passed."""
    return {"within_es": f" (máximo: {seconds:g} s)", "within_en": f" (limit: {seconds:g} s)"}


def second_ask_facts(*, asked_again: bool) -> dict[str, str]:
    """Facts for what the model did not do: whether it was asked twice."""
    if not asked_again:
        return {"again_es": "", "again_en": ""}
    return {"again_es": ", tampoco al pedírselo por segunda vez", "again_en": ", not even when asked a second time"}


class Facts(dict[str, str | int]):
    """A wording must never fail: what is optional is left out, and what was forgotten shows."""

    def __missing__(self, name: str) -> str:
        return "" if name.startswith(("size_", "within_", "own_key_", "again_", "instead_", "hint_")) else "?"
