import re
from pathlib import Path

import pytest

from sai_proxy.simulator import directives
from sai_proxy.simulator.directives import FOREVER_S, KNOWN, DirectiveFault, read_script


@pytest.mark.parametrize(
    ("text", "found", "rest"),
    [
        ("plain", {}, "plain"),
        ("a [[echo]] b", {"echo": ""}, "a  b"),
        ("[[status=429]][[retry-after=7]]x", {"status": "429", "retry-after": "7"}, "x"),
        ('[[answer="a ]] \\"b\\"\\n"]]', {"answer": 'a ]] "b"\n'}, ""),
        ("[[answer=one\ntwo]]", {"answer": "one\ntwo"}, ""),
        ("[[type=text/plain; charset=x]]", {"type": "text/plain; charset=x"}, ""),
        ("[[Not one]] [x] [[]]", {}, "[[Not one]] [x] [[]]"),
    ],
)
def test_directives_are_read_and_taken_out(text: str, found: dict[str, str], rest: str) -> None:
    script = read_script(text)
    assert (dict(script.directives), script.text) == (found, rest)


def test_seconds_may_be_forever() -> None:
    assert read_script("[[silence=forever]]").seconds("silence") == FOREVER_S
    assert read_script("[[silence=0.5]]").seconds("silence") == 0.5
    assert read_script("").seconds("silence") == 0


def test_every_directive_that_the_code_knows_is_documented() -> None:
    package = Path(directives.__file__).parent
    code = "".join((package / name).read_text() for name in ("execute.py", "server.py"))
    used = set(re.findall(r'script\.(?:value|number|seconds)\("([a-z-]+)"|"([a-z-]+)" in script', code))
    names = {name for pair in used for name in pair if name}
    assert len(names) > 20
    assert names <= KNOWN


def test_what_is_no_directive_is_named() -> None:
    with pytest.raises(DirectiveFault, match="nonsense"):
        read_script("[[nonsense]]")
    with pytest.raises(DirectiveFault, match="status=abc"):
        read_script("[[status=abc]]").number("status", 0)
    with pytest.raises(DirectiveFault, match="silence=soon"):
        read_script("[[silence=soon]]").seconds("silence")
