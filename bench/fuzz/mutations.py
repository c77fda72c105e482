"""Makes scripts of hostile senders from seeds, at random; the same seed and number give the same script. Pure.

A script is what one side of a connection does: send these bytes, wait, send the end of its side, reset. Messages
are mutated as bytes (a bit turned), as lines (one doubled) and as words of HTTP (another length put in), then cut.
"""

from collections.abc import Callable, Sequence
from enum import StrEnum
from random import Random

import msgspec


class Act(StrEnum):
    """What a sender does next."""

    SEND = "send"
    PAUSE = "pause"
    HALF_CLOSE = "half_close"
    CLOSE = "close"
    RESET = "reset"


class Step(msgspec.Struct, frozen=True):
    """One thing done."""

    act: Act
    data: bytes = b""
    seconds: float = 0.0


Steps = list[Step]


def sent(steps: Steps) -> bytes:
    """All bytes of a script."""
    return b"".join(step.data for step in steps)


WORDS: tuple[bytes, ...] = (
    # ends of lines, and what some readers take for one
    *(
        b"\r\n",
        b"\n",
        b"\r",
        b"\r\r\n",
        b"\n\r",
        b"\r\n\r\n",
        b"\n\n",
        b"\r\n ",
        b"\r\n\t",
        b"\x0b",
        b"\x0c",
        b"\x85",
    ),
    # framing
    *(b"Content-Length: 0\r\n", b"Content-Length: 5\r\n", b"Content-Length: +5\r\n", b"Content-Length: 5, 5\r\n"),
    *(b"Content-Length: 0x5\r\n", b"Content-Length : 5\r\n", b"Content_Length: 5\r\n", b"Content-Length:\r\n"),
    *(b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: xchunked\r\n", b"Transfer-Encoding : chunked\r\n"),
    *(
        b"Transfer-Encoding:\x0bchunked\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Transfer_Encoding: chunked\r\n",
    ),
    *(
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Transfer-Encoding: chunked, chunked\r\n",
        b" chunked",
        b"TE: trailers\r\n",
    ),
    *(
        b"Host: legal.test\r\n",
        b"Host: fuzz.test\r\n",
        b"Host:\r\n",
        b"Host: a, b\r\n",
        b"Host: fuzz.test:99999\r\n",
    ),
    *(
        b"Connection: close\r\n",
        b"Connection: keep-alive\r\n",
        b"Connection: Upgrade\r\n",
        b"Upgrade: websocket\r\n",
    ),
    *(b"Connection: Host, Content-Length, X-Request-Id, Via\r\n", b"Expect: 100-continue\r\n", b"Expect: else\r\n"),
    *(
        b"Max-Forwards: 0\r\n",
        b"Max-Forwards: 7\r\n",
        b"Via: 1.1 styx\r\n",
        b"Via: 1.1 styx, 1.1 styx, 1.1 STYX\r\n",
    ),
    *(
        b"X-Styx-Backend: me\r\n",
        b"X_Styx_Backend: me\r\n",
        b"X-Request-Id: mine\r\n",
        b"X-Forwarded-For: 127.0.0.1\r\n",
    ),
    # request lines and versions
    *(
        b" HTTP/1.1\r\n",
        b" HTTP/1.0\r\n",
        b" HTTP/0.9\r\n",
        b" HTTP/2.0\r\n",
        b" HTTP/1.1 ",
        b" http/1.1\r\n",
        b" HTTP/1.10\r\n",
    ),
    *(b"GET ", b"HEAD ", b"POST ", b"OPTIONS * ", b"TRACE ", b"CONNECT ", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    *(
        b"http://fuzz.test/",
        b"http://u@fuzz.test/",
        b"https://legal.test",
        b"//",
        b"*",
        b"#",
        b"/../",
        b"%00",
        b"?",
    ),
    # chunks
    *(
        b"0\r\n\r\n",
        b"5\r\nhello\r\n",
        b"5;a=b\r\n",
        b'5;a="\r\n',
        b"5 ;a\r\n",
        b"-1\r\n",
        b"0x5\r\n",
        b"00000000000000005\r\n",
    ),
    *(
        b"ffffffffffffffff\r\n",
        b"10000000000000005\r\n",
        b"7fffffffffffffff\r\n",
        b"5\n",
        b"0\r\nContent-Length: 3\r\n\r\n",
    ),
    # status lines
    *(
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n",
        b"HTTP/1.1 304 \r\n",
    ),
    *(
        b"HTTP/1.1 101 Switching Protocols\r\n",
        b"HTTP/1.1 2OO OK\r\n",
        b"HTTP/1.1 099 \r\n",
        b"HTTP/1.1  200 OK\r\n",
    ),
    # numbers at their bounds, control bytes, blanks
    *(
        b"0",
        b"1",
        b"-1",
        b"16",
        b"255",
        b"256",
        b"65535",
        b"65536",
        b"2147483648",
        b"4294967296",
        b"9999999999999999",
    ),
    *(
        b"18446744073709551615",
        b"18446744073709551616",
        b"1e3",
        b"\x00",
        b"\x01",
        b"\x7f",
        b"\xff",
        b"\xc2\xb2",
        b" ",
        b"\t",
        b":",
        b",",
        b";",
    ),
)
"What is put in, or over something else."

RUNS = (b"A", b"\x00", b" ", b"\r\n", b"a: b\r\n", b"0", b"\xff", b"1\r\nx\r\n", b";a=b")
"What is put in many times over."


Mutation = Callable[[Random, bytes], bytes]


def _place(rand: Random, data: bytes) -> int:
    # Heads decide; they lie in front.
    return int(len(data) * rand.random() ** 1.5)


def turn_bit(rand: Random, data: bytes) -> bytes:
    at = _place(rand, data)
    return data[:at] + bytes([data[at] ^ 1 << rand.randrange(8)]) + data[at + 1 :] if at < len(data) else data


def put_byte(rand: Random, data: bytes) -> bytes:
    at = _place(rand, data)
    return data[:at] + bytes([rand.randrange(256)]) + data[at:]


def drop_some(rand: Random, data: bytes) -> bytes:
    at = _place(rand, data)
    return data[:at] + data[at + rand.choice((1, 1, 1, 2, 4, 20)) :]


def double_some(rand: Random, data: bytes) -> bytes:
    at = _place(rand, data)
    return data[:at] + data[at : at + rand.choice((1, 2, 4, 30))] + data[at:]


def put_word(rand: Random, data: bytes) -> bytes:
    at = _place(rand, data)
    return data[:at] + rand.choice(WORDS) + data[at:]


def put_line(rand: Random, data: bytes) -> bytes:
    """A word where a line begins: most often a whole field."""
    lines = data.split(b"\r\n")
    at = rand.randrange(len(lines))
    word = rand.choice(WORDS).removesuffix(b"\r\n")
    return b"\r\n".join([*lines[: at + 1], word, *lines[at + 1 :]])


def over_write(rand: Random, data: bytes) -> bytes:
    at = _place(rand, data)
    word = rand.choice(WORDS)
    return data[:at] + word + data[at + len(word) :]


def swap_lines(rand: Random, data: bytes) -> bytes:
    lines = data.split(b"\r\n")
    one, other = rand.randrange(len(lines)), rand.randrange(len(lines))
    lines[one], lines[other] = lines[other], lines[one]
    return b"\r\n".join(lines)


def double_line(rand: Random, data: bytes) -> bytes:
    lines = data.split(b"\r\n")
    at = rand.randrange(len(lines))
    return b"\r\n".join([*lines[:at], lines[at], *lines[at:]])


def other_line_end(rand: Random, data: bytes) -> bytes:
    parts = data.split(b"\r\n")
    at = rand.randrange(len(parts))
    return (
        b"\r\n".join(parts[:at]) + rand.choice((b"\n", b"\r", b"\r\r\n", b" \r\n", b"")) + b"\r\n".join(parts[at:])
    )


def other_number(rand: Random, data: bytes) -> bytes:
    """A digit becomes another one."""
    places = [at for at, byte in enumerate(data) if 48 <= byte <= 57]
    if not places:
        return data
    at = rand.choice(places)
    return data[:at] + rand.choice((b"0", b"1", b"9", b"+1", b"0x1", b"1 ", b"00", b"a", b"")) + data[at + 1 :]


def put_run(rand: Random, data: bytes) -> bytes:
    at = _place(rand, data)
    run = rand.choice(RUNS)
    return data[:at] + run * (rand.choice((17, 201, 300, 8192, 16384, 40000)) // len(run)) + data[at:]


def cut_off(rand: Random, data: bytes) -> bytes:
    return data[: rand.randrange(len(data) + 1)]


MUTATIONS: tuple[tuple[Mutation, int], ...] = (
    (turn_bit, 10),
    (put_byte, 10),
    (drop_some, 10),
    (double_some, 6),
    (put_word, 14),
    (put_line, 14),
    (over_write, 6),
    (swap_lines, 5),
    (double_line, 5),
    (other_line_end, 8),
    (other_number, 10),
    (put_run, 2),
    (cut_off, 3),
)
_MUTATIONS = [mutation for mutation, _ in MUTATIONS]
_WEIGHTS = [weight for _, weight in MUTATIONS]
LARGEST = 160 * 1024
"Bytes of a message beyond which it grows no more."


def mutate(rand: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """This message, changed a few times; now and then the beginning of it with the end of another."""
    if rand.random() < 0.08:
        other = rand.choice(others)
        data = data[: _place(rand, data)] + other[rand.randrange(len(other) + 1) :]
    for mutation in rand.choices(_MUTATIONS, _WEIGHTS, k=rand.choice((1, 1, 1, 2, 2, 3, 5))):
        if len(data) < LARGEST:
            data = mutation(rand, data)
    return data


PAUSE = 0.004
"Seconds between pieces, most often: long enough to be read alone."


def cut(rand: Random, data: bytes) -> Steps:
    """The bytes in one piece, in a few, or in many, with pauses or without."""
    way = rand.random()
    if way < 0.5 or len(data) < 2:
        return [Step(Act.SEND, data)] if data else []
    if way < 0.54 and len(data) < 400:
        places = list(range(1, len(data)))
    else:
        places = sorted({rand.randrange(1, len(data)) for _ in range(rand.choice((1, 1, 2, 3, 8)))})
    steps: Steps = []
    slow = 0.5 if len(places) < 10 else 0.02
    for start, end in zip([0, *places], [*places, len(data)], strict=True):
        steps.append(Step(Act.SEND, data[start:end]))
        if end < len(data) and rand.random() < slow:
            steps.append(Step(Act.PAUSE, seconds=PAUSE if rand.random() < 0.95 else 10 * PAUSE))
    return steps


def depart(rand: Random, steps: Steps) -> Steps:
    """The script with a rude end: half of the connection closed, or all of it reset, perhaps in the middle."""
    act = rand.choice((Act.HALF_CLOSE, Act.RESET, Act.CLOSE))
    if act is not Act.HALF_CLOSE and rand.random() < 0.5:
        steps = steps[: rand.randrange(len(steps) + 1)]
    pause = [Step(Act.PAUSE, seconds=PAUSE)] if rand.random() < 0.5 else []
    return [*steps, *pause, Step(act)]
