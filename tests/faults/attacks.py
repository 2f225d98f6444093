"""The attacks, each said once: the tests run those that are quick, `python -m benchmarks.attacks` all of them."""

from collections.abc import Callable, Sequence

from tests.faults.arena import (
    COMPLETIONS,
    GUARDED,
    KIB,
    MAX_BODY,
    MESSAGES,
    MODEL,
    NESTED,
    WIDE_CONTEXT,
    Attack,
    bomb,
    chat,
    empty_messages,
    filled,
    holds,
    post_head,
    posts,
    posts_at_once,
    posts_in_turn,
    request,
    with_field,
)
from tests.faults.hostile_sai import GZIP, JSON, MIB, PLAIN, head, packed, repeats, says, silence

SILENT = silence()
EMOJI = "😀".encode()
ROOM = MAX_BODY - 300
"""For what is large in a body, beside what must be in it."""

STRINGS, OBJECTS, ARRAYS, NUMBERS = (bomb(unit) for unit in (b'""', b"{}", b"[]", b"0"))
DEEP = bomb(b"[" * 100 + b"]" * 100)
KEY_IN_BODY = b'"litellm_params":{"metadata":{"user_api_key":"%s"}}'


UNREAD = (b"metadata", b"tools", b"logit_bias", b"tool_choice", b"stop", b"unknown", b"model")


def in_each(value: bytes, names: Sequence[bytes]) -> Callable[[], list[bytes]]:
    """A body for each of these fields, with this value in it."""
    return lambda: [with_field(name, value) for name in names]


def given(data: bytes) -> Callable[[], bytes]:
    """For what is there already."""
    return lambda: data


# The body


BODIES = [
    Attack("16 MiB of empty messages, n 8", posts(lambda: empty_messages(MAX_BODY, b'"n":8,'))),
    Attack("100 x 59 KB of empty messages", posts_at_once(lambda: empty_messages(59_000), 100), SILENT),
    Attack(
        "100 x 59 KB of empty messages, n 8",
        posts_at_once(lambda: empty_messages(59_000, b'"n":8,'), 100),
        SILENT,
        heavy=True,
    ),
    Attack("240 x 250 KB of empty messages", posts_at_once(lambda: empty_messages(250_000), 240), SILENT, heavy=True),
    Attack(
        "100 x 250 KB of empty messages",
        posts_at_once(lambda: empty_messages(250_000), 100),
        SILENT,
        heavy=True,
    ),
    *(
        Attack(f"a bomb of {kind} in each of {len(UNREAD)} unread fields", posts_in_turn(in_each(value, UNREAD)))
        for kind, value in (("strings", STRINGS), ("objects", OBJECTS), ("arrays", DEEP))
    ),
    Attack(
        "a bomb of strings as a prompt", posts(lambda: MODEL + b'"prompt":' + STRINGS + b"}", COMPLETIONS), heavy=True
    ),
    Attack(
        "a bomb of numbers as a prompt", posts(lambda: MODEL + b'"prompt":' + NUMBERS + b"}", COMPLETIONS), heavy=True
    ),
    Attack("a bomb of arrays as a prompt", posts(lambda: MODEL + b'"prompt":[' + DEEP + b"]}", COMPLETIONS)),
    Attack(
        "bombs, and no token where one is needed",
        posts_in_turn(lambda: [with_field(b"x", value) for value in (STRINGS, OBJECTS, ARRAYS, DEEP)]),
        env=GUARDED,
    ),
    Attack(
        "a bomb with a key in it, and then malformed",
        posts(lambda: MODEL + KEY_IN_BODY % b"some-key-of-a-user" + b',"x":' + DEEP + b',"messages":[{}]}'),
        env=GUARDED,
    ),
    Attack(
        "nested 100,000 deep, in five places",
        posts_in_turn(
            lambda: [
                NESTED,
                with_field(b"metadata", NESTED),
                with_field(b"seed", NESTED),
                MODEL + b'"messages":' + NESTED + b"}",
                MODEL + KEY_IN_BODY % b"some-key-of-a-user" + b',"x":' + NESTED + b"}",
            ]
        ),
    ),
    Attack(
        "16 MiB of tool calls",
        posts(
            lambda: filled(
                b'{"id":""}', before=MODEL + b'"messages":[{"role":"assistant","tool_calls":[', after=b"]}]}"
            )
        ),
    ),
    Attack(
        "400,000 strings that count half",
        posts(
            lambda: filled(
                b'{"id":"\\\\"}',
                390_000 // 3 * 12,
                before=MODEL + b'"messages":[{"role":"assistant","tool_calls":[',
                after=b"]}]}",
            )
        ),
    ),
    Attack(
        "16 MiB of parts",
        posts(
            lambda: filled(
                b'{"type":"text","text":""}', before=MODEL + b'"messages":[{"role":"user","content":[', after=b"]}]}"
            )
        ),
        heavy=True,
    ),
    Attack(
        "57,000 parts",
        posts(
            lambda: filled(
                b'{"type":"text","text":""}',
                57_000 * 20,
                before=MODEL + b'"messages":[{"role":"user","content":[',
                after=b"]}]}",
            )
        ),
        heavy=True,
    ),
    Attack(
        "16 MiB of one key",
        posts_in_turn(
            lambda: [
                filled(unit, before=MODEL, after=b"," + MESSAGES + b"}")
                for unit in (b'"n":1', b'"stop":""', b'"messages":[{"role":"user","content":""}]')
            ]
        ),
    ),
    Attack("16 MiB and one emoji, wide context", posts(lambda: chat(b"a" * ROOM + EMOJI)), env=WIDE_CONTEXT),
    Attack(
        "the same, 5 at once, SAI silent", posts_at_once(lambda: chat(b"a" * ROOM + EMOJI), 5), SILENT, WIDE_CONTEXT
    ),
    Attack(
        "16 stops of 500 KB",
        posts(lambda: with_field(b"stop", b"[" + b",".join([b'"' + b"a" * 500_000 + b'"'] * 16) + b"]")),
    ),
    Attack("a role of 16 MiB", posts(lambda: MODEL + b'"messages":[{"role":"' + b"a" * ROOM + b'","content":"x"}]}')),
    Attack(
        "a role of 16 MiB of a fault's own words",
        posts(lambda: MODEL + b'"messages":[{"role":"' + b" - at `$.x" * (ROOM // 10) + b'","content":"x"}]}'),
    ),
    Attack(
        "numbers of 16 MiB",
        posts_in_turn(
            lambda: (
                [with_field(name, b"1." + b"1" * ROOM) for name in (b"seed", b"temperature")]
                + [with_field(b"seed", b"1" * ROOM)]
            )
        ),
    ),
    Attack(
        "a key of 16 MiB of words",
        posts(lambda: MODEL + KEY_IN_BODY % (b"ab " * (ROOM // 3)) + b"," + MESSAGES + b"}"),
        env=GUARDED,
    ),
    Attack(
        "a key of 16 MiB of `bearer`",
        posts(lambda: MODEL + KEY_IN_BODY % (b"bearer " * (ROOM // 7)) + b"," + MESSAGES + b"}"),
    ),
    Attack(
        "32 prompts that share a suffix of 8 MiB",
        posts(
            lambda: MODEL + b'"prompt":[' + b",".join([b'"x"'] * 32) + b'],"suffix":"' + b"a" * 8 * MIB + b'"}',
            COMPLETIONS,
        ),
        heavy=True,
    ),
    Attack(
        "32 prompts, a suffix of 500,000 emojis",
        posts(
            lambda: MODEL + b'"prompt":[' + b",".join([b'"x"'] * 32) + b'],"suffix":"' + EMOJI * 500_000 + b'"}',
            COMPLETIONS,
        ),
        heavy=True,
    ),
    Attack(
        "32 prompts, a suffix of 500,000 escapes",
        posts(
            lambda: MODEL + b'"prompt":[' + b",".join([b'"x"'] * 32) + b'],"suffix":"' + b"\\u0001" * 500_000 + b'"}',
            COMPLETIONS,
        ),
    ),
    Attack(
        "12 questions of 6 MiB, n 8, SAI does not read",
        posts_at_once(lambda: chat(b"\\u0001" * 500_000, b'"n":8,'), 12),
        SILENT,
        sai_reads=False,
    ),
    Attack("20 x 15 MiB at once", posts_at_once(lambda: chat(b"a" * 15 * MIB), 20), heavy=True),
    Attack(
        "20 x 15 MiB at once, wide context, SAI silent",
        posts_at_once(lambda: chat(b"a" * 15 * MIB), 20),
        SILENT,
        WIDE_CONTEXT,
    ),
    Attack("10 x 15 MiB refused in turn", posts_in_turn(lambda: [chat(b"a" * 15 * MIB)], 10)),
    Attack("60 x 15 MiB refused in turn", posts_in_turn(lambda: [chat(b"a" * 15 * MIB)], 60), heavy=True),
    Attack(
        "40 bodies in chunks of one byte",
        holds(
            lambda: post_head(0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked") + b"1\r\na\r\n" * 100_000,
            40,
        ),
    ),
]


# SAI's answer

WORST_STOP = "a" * 999 + "b"
STOPS = ",".join(f'"{"a" * (983 + at)}b"' for at in range(16)).encode()
MIDDLE_STOPS = ",".join(f'"{"a" * (490 + at)}b{"a" * 490}"' for at in range(16)).encode()
WITH_STOPS = chat(b"Hello", b'"stop":[' + STOPS + b"],")
WITH_MIDDLE_STOPS = chat(b"Hello", b'"stop":[' + MIDDLE_STOPS + b"],")
STREAMED, EIGHTFOLD, ASKED = chat(b"Hello", b'"stream":true,'), chat(b"Hello", b'"n":8,'), chat(b"Hello")
ZIPPED = head(PLAIN, GZIP)

ANSWERS = [
    *(
        Attack(
            f"8 MiB of a, 16 stops{where}, pieces of {size}",
            posts(given(body)),
            repeats(b"a" * size, 8 * MIB),
            heavy=size < 1_000,
        )
        for where, body in (("", WITH_STOPS), (" with the b inside", WITH_MIDDLE_STOPS))
        for size in (100, 1_400, 64 * KIB)
    ),
    Attack("1 GiB in a small gzip", posts(lambda: ASKED), says(packed(b"a", 64 * MIB), PLAIN, GZIP)),
    Attack("1 GiB in a small gzip, streamed", posts(lambda: STREAMED), says(packed(b"a", 64 * MIB), PLAIN, GZIP)),
    Attack(
        "20 MiB in a gzip of 1 : 190, 16 stops",
        posts(lambda: WITH_STOPS),
        says(packed(b"a", 20 * MIB, noise=4_600), PLAIN, GZIP),
    ),
    Attack(
        "20 MiB of escapes in a gzip of 1 : 190",
        posts(lambda: ASKED),
        says(packed(b"\\n", 20 * MIB, first=b'"', last=b'"', noise=4_600), JSON, GZIP),
    ),
    Attack(
        "20 MiB of escapes",
        posts(lambda: ASKED),
        repeats(b"\\n" * 32 * KIB, 20 * MIB, head(JSON) + b'"'),
        heavy=True,
    ),
    Attack(
        "8 x 4 MiB of escapes",
        posts(lambda: EIGHTFOLD),
        repeats(b"\\n" * 32 * KIB, 4 * MIB, head(JSON) + b'"'),
        heavy=True,
    ),
    Attack("an endless answer", posts(lambda: ASKED), repeats(b"a" * 64 * KIB, 1024 * MIB)),
    Attack("an endless answer, streamed", posts(lambda: STREAMED), repeats(b"a" * 64 * KIB, 1024 * MIB)),
    Attack(
        "an endless answer with emojis",
        posts(lambda: ASKED),
        repeats(b"a" * 64 * KIB + EMOJI, 1024 * MIB),
        heavy=True,
    ),
    Attack("an endless answer of control characters", posts(lambda: ASKED), repeats(b"\1" * 64 * KIB, 60 * MIB)),
    Attack("8 endless answers", posts(lambda: EIGHTFOLD), repeats(b"a" * 64 * KIB, 1024 * MIB), heavy=True),
    Attack("60 MiB in pieces of one byte", posts(lambda: ASKED), repeats(b"a", 200_000), heavy=True),
    Attack("a page of comments", posts(lambda: ASKED), says(b"<!---->" * 23 + b"x", "Content-Type: text/html")),
    Attack(
        "a failure with a long number",
        posts(lambda: ASKED),
        says(b"&#" + b"9" * 5_000 + b";", PLAIN, status="500 Oh"),
        expected="502",
    ),
    Attack(
        "heads before the answer, again and again",
        posts(lambda: ASKED),
        repeats(b"HTTP/1.1 100 Continue\r\n\r\n" * 2_000, 20 * MIB, b""),
    ),
    Attack(
        "a head that does not end", posts(lambda: ASKED), repeats(b"x" * 64 * KIB, 100 * MIB, b"HTTP/1.1 200 OK\r\nX: ")
    ),
    Attack(
        "30 x 8 MiB whole, never read",
        holds(lambda: request(ASKED), 30, receive_buffer=4096),
        repeats(b"a" * 64 * KIB, 8 * MIB),
    ),
    Attack(
        "200 streams never read",
        holds(lambda: request(STREAMED), 200, receive_buffer=4096),
        repeats(b"a" * 64 * KIB, 16 * MIB),
    ),
    Attack(
        "200 streams of control characters never read",
        holds(lambda: request(STREAMED), 200, receive_buffer=4096),
        repeats(b"\1" * 64 * KIB, 16 * MIB),
        heavy=True,
    ),
    Attack(
        "200 zipped streams never read",
        holds(lambda: request(STREAMED), 200, receive_buffer=4096),
        says(packed(b"\1", 8 * MIB), PLAIN, GZIP),
        heavy=True,
    ),
    Attack(
        "900 streams never read",
        holds(lambda: request(STREAMED), 900, receive_buffer=4096),
        repeats(b"a" * 64 * KIB, 16 * MIB),
        heavy=True,
    ),
]


# HTTP

FIELD = b"X-%d: " + b"x" * 30 * KIB + b"\r\n"
UNFINISHED = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n" + FIELD % 1 + FIELD % 2
LONG_HEAD = b"GET /health HTTP/1.1\r\n" + FIELD % 1 + FIELD % 2 + b"\r\n"
BEHIND = request(ASKED).replace(b"Connection: close\r\n", b"")

CONNECTIONS = [
    Attack("40 unfinished heads of 60 KB", holds(lambda: UNFINISHED, 40), heavy=True),
    Attack("400 unfinished heads of 60 KB", holds(lambda: UNFINISHED, 400)),
    Attack("1,100 unfinished heads of 60 KB", holds(lambda: UNFINISHED, 1_100), heavy=True),
    Attack(
        "400 heads of 60 KB, bodies that do not come", holds(lambda: UNFINISHED + b"Content-Length: 9\r\n\r\n", 400)
    ),
    Attack(
        "900 heads of 60 KB, bodies that do not come",
        holds(lambda: UNFINISHED + b"Content-Length: 9\r\n\r\n", 900),
        heavy=True,
    ),
    Attack(
        "128 fields of 48 KiB",
        holds(
            lambda: b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: %s\r\n" % (at, b"x" * 47 * KIB) for at in range(128)), 40
        ),
    ),
    Attack("4,000 idle connections", holds(lambda: b"", 4_000), heavy=True),
    Attack(
        "30 heads of 60 KB behind each of 40 answers", holds(lambda: BEHIND + LONG_HEAD * 30, 40), SILENT, heavy=True
    ),
    Attack(
        "30 heads of 60 KB behind each of 200 answers", holds(lambda: BEHIND + LONG_HEAD * 30, 200), SILENT, heavy=True
    ),
    Attack(
        "30 bodies of 60 KB behind each of 60 answers",
        holds(lambda: BEHIND + (post_head(60_000) + b"x" * 60_000) * 30, 60),
        SILENT,
    ),
    Attack(
        "30 bodies of 60 KB behind each of 200 answers",
        holds(lambda: BEHIND + (post_head(60_000) + b"x" * 60_000) * 30, 200),
        SILENT,
        heavy=True,
    ),
    Attack(
        "30 heads of 20 KB behind each of 300 answers",
        holds(lambda: BEHIND + (b"GET /health HTTP/1.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n") * 30, 300),
        SILENT,
        heavy=True,
    ),
    Attack(
        "250 KB behind each of 400 upgrades",
        holds(
            lambda: BEHIND.replace(b"Host: x", b"Host: x\r\nConnection: Upgrade\r\nUpgrade: h2c") + b"x" * 250_000, 400
        ),
        SILENT,
    ),
    *(
        Attack(
            f"20,000 x {path} on each of 4 connections, never read",
            holds(given(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path.encode() * 20_000), 4, receive_buffer=4096),
        )
        for path in ("/openapi.json", "/metrics", "/v1/models", "/nothing")
    ),
    Attack(
        "300 x the documents' script, never read",
        holds(lambda: b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n" * 30, 300, receive_buffer=4096),
    ),
    Attack(
        "900 x the documents' script, never read",
        holds(lambda: b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n" * 30, 900, receive_buffer=4096),
        heavy=True,
    ),
]


ATTACKS = [*BODIES, *ANSWERS, *CONNECTIONS]
