"""What the simulator thinks of a credential. Any key or cookie is good, but for these words in it:

| word | answer |
|---|---|
| `invalid` | 401 |
| `expired` | 302 to a login page |
| `expired-page` | a login page with status 200 |
| `denied` | 403, the template is not shared with this account |
| `limited` | 429 `Test template usage limit exceeded` |
| `quota` | 429 `Template usage limit exceeded.` |
| `limited-after-N` | 429 from call N + 1 on |
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

LOGIN_URL = "https://login.microsoftonline.com/common/oauth2/authorize"
LOGIN_PAGE = (
    "<!DOCTYPE html><html><head><title>Sign in to your account</title></head>"
    '<body id="ConvergedSignIn"><form action="https://login.microsoftonline.com/login"></form></body></html>'
)
TEST_LIMIT = "Test template usage limit exceeded"
LIMIT = "Template usage limit exceeded."
DENIED = "Access denied: the tool is not in your favourites and you are not its owner."


class Refusal(NamedTuple):
    """An answer in place of the model's."""

    status: int
    body: str = ""
    content_type: str = "text/plain"
    headers: Mapping[str, str] = {}


LOGIN_REDIRECT = Refusal(302, headers={"Location": LOGIN_URL})
LOGIN_AS_PAGE = Refusal(200, LOGIN_PAGE, "text/html")


def refusal_of(credential: str, calls: int) -> Refusal | None:
    """Why `credential` (empty for none) gets no answer, or None. calls: how many it has made."""
    after = re.search(r"limited-after-(\d+)", credential)
    if after:
        return Refusal(429, TEST_LIMIT) if calls > int(after[1]) else None
    for word, refusal in (
        ("invalid", Refusal(401, "Unauthorized")),
        ("expired-page", LOGIN_AS_PAGE),
        ("expired", LOGIN_REDIRECT),
        ("denied", Refusal(403, DENIED)),
        ("limited", Refusal(429, TEST_LIMIT)),
        ("quota", Refusal(429, LIMIT)),
    ):
        if word in credential:
            return refusal
    return None if credential else Refusal(401, "Unauthorized")
