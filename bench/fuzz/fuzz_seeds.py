"""The seeds of the fuzzer, legal and hostile, and how a numbered message is made of them. Pure.

`<number>` stands for the number of the message, which has as many digits. The canary is a whole request that stands
in bodies only: when it arrives as a request, a body was taken for one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random

import msgspec

from bench.fuzz.mutations import PAUSE, Act, Step, Steps, cut, depart, mutate, sent
from bench.fuzz.strict_reader import Faulty, State, Unfinished, read_response

FUZZED, GARBLED = b"fuzz.test", b"garbled.test"
"Hosts: whose requests are mutated, and whose responses are."
ENVIRONMENTS = 64
"Of GARBLED: g00.garbled.test and so on."

CANARY = b"GET /canary/<number> HTTP/1.1\r\nHost: legal.test\r\nX-Canary: <number>\r\n\r\n"
_LONG = b"0123456789abcdef" * 64
_FORM = b"Content-Type: application/x-www-form-urlencoded\r\n"


def _get(*fields: bytes, line: bytes = b"GET /f/<number> HTTP/1.1", host: bytes = FUZZED) -> bytes:
    return b"\r\n".join([line, b"Host: " + host, *fields, b"", b""])


def _post(body: bytes, *fields: bytes, line: bytes = b"POST /f/<number> HTTP/1.1", host: bytes = FUZZED) -> bytes:
    return _get(b"Content-Length: %d" % len(body), *fields, line=line, host=host) + body


def _chunked(
    *chunks: bytes, end: bytes = b"0\r\n\r\n", fields: tuple[bytes, ...] = (), host: bytes = FUZZED
) -> bytes:
    head = _get(b"Transfer-Encoding: chunked", *fields, line=b"POST /f/<number> HTTP/1.1", host=host)
    return head + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + end


LEGAL_REQUESTS: tuple[bytes, ...] = (
    _get(),
    _get(b"User-Agent: fuzz/1", b"Accept: */*", b"Cookie: a=1; b=2", b"X-Marker: <number>"),
    _get(line=b"HEAD /f/<number>?a=b HTTP/1.1"),
    _get(line=b"OPTIONS * HTTP/1.1"),
    _get(b"Max-Forwards: 3", line=b"OPTIONS /f/<number> HTTP/1.1"),
    _get(line=b"PURGE /f/<number> HTTP/1.1"),
    _get(line=b"GET http://fuzz.test/f/<number>?x HTTP/1.1"),
    _get(line=b"GET HTTP://FUZZ.test:80?x=<number> HTTP/1.1"),
    b"GET http://fuzz.test/f/<number> HTTP/1.0\r\n\r\n",
    _get(line=b"GET /f/<number> HTTP/1.0"),
    _get(b"Connection: keep-alive", line=b"GET /f/<number> HTTP/1.0"),
    b"\r\n" + _get(),
    _get(b"Connection: close, X-Marker", b"X-Marker: <number>"),
    _get(b"TE: trailers", b"Connection: TE"),
    _get(b"X-Empty:", b"X-Blanks: \t a b \t"),
    _get(b"Cookie: " + _LONG * 4),
    _get(line=b"GET /f/<number>/\xc3\xa9%20%2e%2e//x HTTP/1.1"),
    _post(CANARY),
    _post(CANARY + CANARY, _FORM.strip()),
    _post(b"a=<number>&b=2", b"Expect: 100-continue"),
    _post(b"", line=b"PUT /f/<number> HTTP/1.1"),
    _post(CANARY, line=b"DELETE /f/<number> HTTP/1.1"),
    _post(_LONG * 20 + CANARY),
    _get(b"Content-Length: 000005", line=b"POST /f/<number> HTTP/1.1") + b"hello",
    _chunked(CANARY),
    _chunked(b"one ", b"two ", CANARY, b"x" * 300),
    _chunked(b"hello", end=b"0\r\nX-Sum: <number>\r\nX-Two: 2\r\n\r\n", fields=(b"Trailer: X-Sum",)),
    _chunked(CANARY, end=b"000;last\r\n\r\n"),
    _get(b"Transfer-Encoding: Chunked", line=b"POST /f/<number> HTTP/1.1")
    + b'5;a="b;\\"c";d\r\nhello\r\n0\r\n\r\n',
    _post(CANARY) + _get() + _chunked(b"abc") + _get(line=b"HEAD /f/<number> HTTP/1.1") + _get(),
)

HOSTILE_REQUESTS: tuple[bytes, ...] = (
    _post(b"0\r\n\r\n" + CANARY, b"Transfer-Encoding: chunked"),
    _get(b"Transfer-Encoding: chunked", b"Content-Length: 5", line=b"POST /f/<number> HTTP/1.1")
    + b"0\r\n\r\n"
    + CANARY,
    _post(CANARY, b"Content-Length: 0"),
    _get(b"Content-Length: 3, 3", line=b"POST /f/<number> HTTP/1.1") + b"abc" + CANARY,
    _get(b"Transfer-Encoding: xchunked", line=b"POST /f/<number> HTTP/1.1") + b"0\r\n\r\n" + CANARY,
    _get(b"Transfer-Encoding : chunked", b"Content-Length: 60", line=b"POST /f/<number> HTTP/1.1")
    + b"0\r\n\r\n"
    + CANARY,
    _get(b"Transfer-Encoding: identity", line=b"POST /f/<number> HTTP/1.1") + CANARY,
    _get(b"Transfer-Encoding:\r\n chunked", line=b"POST /f/<number> HTTP/1.1") + b"0\r\n\r\n" + CANARY,
    _get(b"X: y\nTransfer-Encoding: chunked", b"Content-Length: 60", line=b"POST /f/<number> HTTP/1.1") + CANARY,
    _get(b"X: y\rContent-Length: 60", line=b"POST /f/<number> HTTP/1.1") + CANARY,
    _get(b"Transfer-Encoding: chunked", line=b"POST /f/<number> HTTP/1.0") + b"0\r\n\r\n" + CANARY,
    _chunked(b"hello", end=b"0\r\nContent-Length: 90\r\n\r\n" + CANARY),
    _get(b"Transfer-Encoding: chunked", line=b"POST /f/<number> HTTP/1.1") + b"5\nhello\r\n0\r\n\r\n" + CANARY,
    _get(b"Transfer-Encoding: chunked", line=b"POST /f/<number> HTTP/1.1") + b"5;\n" + CANARY + b"\r\n0\r\n\r\n",
    _get(b"Transfer-Encoding: chunked", line=b"POST /f/<number> HTTP/1.1") + b"FFFFFFFFFFFFFFFF1\r\n" + CANARY,
    _get(b"Transfer-Encoding: chunked", line=b"POST /f/<number> HTTP/1.1") + b"5\r\nhelloXX0\r\n\r\n" + CANARY,
    _get(b"Host: legal.test"),
    _get(host=b"fuzz.test\x00.legal.test"),
    _get(host=b""),
    _get(line=b"GET http://legal.test/f/<number> HTTP/1.1"),
    _get(line=b"GET HTTPS://FUZZ.test:443?x=<number> HTTP/1.1"),
    _get(line=b"CONNECT legal.test:443 HTTP/1.1"),
    _get(line=b"TRACE /f/<number> HTTP/1.1"),
    _get(line=b"GET /f/<number> HTTP/1.1 HTTP/1.1"),
    b"GET /f/<number>\r\n\r\n",
    b"GET /f/<number> HTTP/1.1\r\n Host: fuzz.test\r\n\r\n",
    _get(b": nothing", b"X Y: z", b"\xff\xfe: 1"),
    _get(b"X-Null: a\x00b"),
    _get(b"Connection: Host, Content-Length, Via, X-Styx-Backend, X-Request-Id"),
    _get(b"Upgrade: h2c", b"Connection: Upgrade, HTTP2-Settings", b"HTTP2-Settings: AAMAAABkAAQAAP__"),
    _get(b"Via: 1.1 styx, 1.1 styx, 1.1 styx"),
    b"\r\n\r\n" + _get(),
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(64)),
)

PLAIN_REQUESTS: tuple[bytes, ...] = (
    _get(host=GARBLED),
    _get(host=GARBLED),
    _get(line=b"HEAD /g/<number> HTTP/1.1", host=GARBLED),
    _get(b"Connection: close", host=GARBLED),
    _get(line=b"GET /g/<number> HTTP/1.0", host=GARBLED),
    _post(b"plain <number>", host=GARBLED),
    _chunked(b"plain ", b"<number>", host=GARBLED),
    _post(_LONG * 80, host=GARBLED),
)
"Requests to which a garbled response comes."

MARK = b"GARBLED-ANSWER"
"Stands in every garbled response; no legal request may get it back."


def _response(line: bytes, *fields: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join([b"HTTP/1.1 " + line, b"X-Mark: " + MARK + b"-<number>", *fields, b"", b""]) + body


_OTHER = _response(b"200 OK", b"Content-Length: 14", body=MARK)
_CHUNKS = b"e\r\n" + MARK + b"\r\n3\r\nabc\r\n0\r\n\r\n"
_CODED = b"Transfer-Encoding: chunked"

TAME_RESPONSES: tuple[bytes, ...] = (
    _response(b"200 OK", b"Content-Length: 14", body=MARK),
    _response(
        b"200 OK", b"Content-Length: 14", b"Connection: close", b"Set-Cookie: a=b", b"Set-Cookie: c=d", body=MARK
    ),
    _response(b"200", _CODED, body=_CHUNKS),
    _response(b"200 ", _CODED, b"Trailer: X-Sum", body=b"e;x=y\r\n" + MARK + b"\r\n0\r\nX-Sum: 1\r\n\r\n"),
    _response(b"200 OK", body=MARK * 20),
    _response(b"204 No Content"),
    _response(b"304 Not Modified", b"ETag: x", b"Content-Length: 14"),
    _response(b"404 Not Found", b"Content-Length: 5000", body=b"404 " * 1250),
    b"HTTP/1.1 100 Continue\r\n\r\n" + _response(b"200 OK", b"Content-Length: 14", body=MARK),
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 2 + _response(b"200 OK", _CODED, body=_CHUNKS),
    _response(b"200 OK", b"Content-Length: 14", body=MARK).replace(b"HTTP/1.1", b"HTTP/1.0"),
    _response(b"200 OK", b"Content-Length: 61440", body=_LONG * 60),
)
LEGAL_RESPONSES: tuple[bytes, ...] = (
    *TAME_RESPONSES,
    _response(b"500 Oh", b"Content-Length: 14", body=MARK),
    _response(b"503 Full", b"X-Styx-Refused: full", b"Retry-After: 1", b"Content-Length: 4", body=b"full"),
    _response(b"421 Moved", b"Content-Length: 0"),
    _response(b"560 Another", b"Content-Length: 0"),
    _response(b"502 Bad Gateway", b"Content-Length: 0"),
)

HOSTILE_RESPONSES: tuple[bytes, ...] = (
    _response(b"200 OK", b"Content-Length: 14", _CODED, body=_CHUNKS),
    _response(b"200 OK", b"Content-Length: 14", b"Content-Length: 15", body=MARK + _OTHER),
    _response(b"200 OK", b"Content-Length: -1", body=MARK),
    _response(b"200 OK", b"Content-Length: 14", body=MARK + _OTHER),
    _response(b"204 No Content", b"Content-Length: 200", body=_OTHER),
    _response(b"304 Not Modified", _CODED, body=_CHUNKS + _OTHER),
    _response(b"101 Switching Protocols", b"Upgrade: websocket", b"Connection: Upgrade", body=_OTHER),
    _response(b"200 OK", b"Transfer-Encoding: gzip, chunked", body=_CHUNKS),
    _response(b"200 OK", _CODED, body=b"e\r\n" + MARK),
    _response(b"200 OK", _CODED, body=b"zz\r\n" + MARK),
    _response(b"200 OK", b"Content-Length: 1400", body=MARK),
    _response(b"200 OK", b"X: a\n b: c", b"Content-Length: 14", body=MARK),
    _response(b"200 OK", b"X-Request-Id: theirs", b"X-Styx-Error: bad_request", b"Content-Length: 14", body=MARK),
    b"HTTP/1.1 102 Processing\r\n\r\n" * 70 + _OTHER,
    b"HTTP/1.1 99 Low\r\n\r\n",
    b"ICY 200 OK\r\n\r\n" + MARK,
    b"\r\n" + _OTHER,
    MARK * 40,
    b"",
)

_KEY = (
    b"Connection: Upgrade",
    b"Upgrade: websocket",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    b"Sec-WebSocket-Version: 13",
)
UPGRADES: tuple[bytes, ...] = (
    _get(*_KEY, host=GARBLED),
    _get(b"Connection: keep-alive, Upgrade", b"Upgrade: else/1, websocket", host=GARBLED),
)
_SWITCH = _response(b"101 Switching Protocols", b"Connection: Upgrade", b"Upgrade: websocket")
OFFERED = frozenset({b"websocket", b"else/1"})
SWITCHES: tuple[bytes, ...] = (
    _SWITCH,
    _SWITCH + b"\x81\x05hello" + MARK,
    b"HTTP/1.1 103 Early Hints\r\n\r\n" + _SWITCH + _LONG * 30,
    _response(b"101 Switching Protocols", b"Connection: Upgrade", b"Upgrade: never-offered"),
    _response(b"426 Upgrade Required", b"Content-Length: 14", body=MARK),
    _OTHER,
)


class Kind(StrEnum):
    """Whose bytes are mutated."""

    REQUEST = "request"
    RESPONSE = "response"
    TUNNEL = "tunnel"


class Message(msgspec.Struct):
    """What one connection of a client does, and what its backend says to it. No backend steps: a plain response."""

    number: int
    kind: Kind
    client: Steps
    backend: Steps
    hasty: bool = False
    "The backend responds before the request is complete."
    plain: bool = False
    "Nothing was mutated, and nobody departs early: it must work."


@dataclass(frozen=True, slots=True)
class Seeds:
    """Where messages come from."""

    requests: Sequence[bytes]
    responses: Sequence[bytes]

    @classmethod
    def with_corpus(cls, requests: Sequence[bytes] = (), responses: Sequence[bytes] = ()) -> "Seeds":
        """Those of this module, and some of elsewhere."""
        return cls(
            [*LEGAL_REQUESTS, *HOSTILE_REQUESTS, *requests], [*LEGAL_RESPONSES, *HOSTILE_RESPONSES, *responses]
        )


def make_message(seed: int, number: int, seeds: Seeds) -> Message:
    """Always the same one for the same arguments."""
    rand = Random(f"{seed} {number}")
    chance = rand.random()
    make = _request if chance < 0.62 else _garbled if chance < 0.9 else _tunnel
    return make(rand, number, seeds)


def _numbered(data: bytes, number: int) -> bytes:
    return data.replace(b"<number>", b"%08d" % number)


def _request(rand: Random, number: int, seeds: Seeds) -> Message:
    if rand.random() < 0.08:
        data = _numbered(rand.choice(LEGAL_REQUESTS), number)
        return Message(number, Kind.REQUEST, cut(rand, data), [], plain=True)
    data = _numbered(b"".join(rand.choices(seeds.requests, k=rand.choice((1, 1, 1, 2, 3)))), number)
    if rand.random() < 0.95:
        data = mutate(rand, data, seeds.requests)
    steps = cut(rand, data)
    return Message(number, Kind.REQUEST, depart(rand, steps) if rand.random() < 0.15 else steps, [])


def _garbled(rand: Random, number: int, seeds: Seeds) -> Message:
    # One that refuses is left alone for a while: it must not be all of them.
    host = b"g%02d." % rand.randrange(ENVIRONMENTS) + GARBLED
    request = _numbered(rand.choice(PLAIN_REQUESTS), number).replace(GARBLED, host)
    client = cut(rand, request)
    plain = rand.random() < 0.1
    data = _numbered(rand.choice(TAME_RESPONSES if plain else seeds.responses), number)
    if not plain and rand.random() < 0.85:
        data = mutate(rand, data, seeds.responses)
    if not plain and rand.random() < 0.06:
        client = depart(rand, client)
    backend = _backend_steps(rand, data, request.partition(b" ")[0])
    plain = plain and backend[-1].act is Act.CLOSE
    hasty = not plain and rand.random() < 0.15
    return Message(number, Kind.RESPONSE, client, backend, hasty=hasty, plain=plain)


def _tunnel(rand: Random, number: int, seeds: Seeds) -> Message:
    request = _numbered(rand.choice(UPGRADES), number)
    if rand.random() < 0.3:
        request = mutate(rand, request, seeds.requests)
    data = _numbered(rand.choice(SWITCHES), number)
    if rand.random() < 0.4:
        data = mutate(rand, data, seeds.responses)
    flood = _numbered(rand.choice((b"", b"", b"\x89\x00", CANARY, _LONG * 40, rand.randbytes(200))), number)
    pause = [Step(Act.PAUSE, seconds=PAUSE)] if rand.random() < 0.5 else []
    client = [*cut(rand, request), *pause, *cut(rand, flood), *pause]
    client.append(Step(rand.choice((Act.HALF_CLOSE, Act.HALF_CLOSE, Act.CLOSE, Act.RESET))))
    return Message(number, Kind.TUNNEL, client, _backend_steps(rand, data, b"GET", upgrades=OFFERED))


def _backend_steps(rand: Random, data: bytes, method: bytes, *, upgrades: frozenset[bytes] = frozenset()) -> Steps:
    """The response, cut; then nothing, or an end. What stands behind the end of a response comes together with it:
    later it could not be distinguished from the response to the next request, by anybody."""
    end = len(data)
    ended = rand.random() < 0.5
    try:
        response = read_response(data, method=method, ended=ended, upgrades=upgrades)
    except Faulty:
        pass
    except Unfinished:
        ended = ended or rand.random() < 0.99
    else:
        if response.payload.state is State.WHOLE and not response.until_close:
            end = response.payload.end
        elif response.payload.state is State.PARTIAL:  # to wait for more takes long: seldom
            ended = ended or rand.random() < 0.99
    steps = cut(rand, data[:end])
    if end < len(data):
        last = steps.pop() if steps else Step(Act.SEND)
        steps.append(Step(Act.SEND, last.data + data[end:]))
    assert sent(steps) == data
    if ended:
        steps.append(Step(Act.CLOSE if rand.random() < 0.9 else Act.RESET))
    return steps
