"""The two ways to read the fields of a head agree: our own pass over their bytes, and llhttp.

And what our pass accepts, h11 and the strict reader of the fuzzer read as it does. Heads are made up around the
fields that decide about framing, with blanks and bytes where parsers are known to differ.
"""

import random
from collections.abc import Iterator

import h11
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bench.fuzz.strict_reader import read_request
from edge.net.h1.head_reader import HeadReader
from edge.rules.http.framing import BadResponse, RejectedRequest
from edge.rules.http.head_validation import HeadValidator, Request, Response
from edge.rules.http.messages import ResponseHead
from edge.rules.settings import ForwardingSettings, LimitSettings
from tests.corpus.corpus_files import load_corpus

LIMITS = LimitSettings(fields=6, response_fields=5)
NAMES = (
    b"Host Content-Length content-length Transfer-Encoding transfer-encoding Connection Upgrade Cookie X-A TE Via"
    b" Keep-Alive Expect Transfer-Encodin Content-Lengt X_Forwarded_For X-Styx-Refused Date Max-Forwards Proxy"
).split()
VALUES = [
    *b"chunked|Chunked|gzip, chunked|chunked, gzip|identity|5|0|05|+5|5 5|5,5|9999999999999999".split(b"|"),
    *b"18446744073709551615|close|x-a, close|keep-alive, x-a|upgrade|websocket|trailers||\xff|1.1 styx".split(b"|"),
]
BLANKS = (b" ", b"", b"\t", b"  ", b" \t", b"\t ")
BYTES = (b"\x00", b"\x0b", b"\x7f", b"\r", b"\n", b"\r\n", b"\r\n\r\n", b":", b"\x80", b" ", b"\t", b"\x1f", b"")
REQUEST_LINES = (b"GET / HTTP/1.1", b"POST /a?b HTTP/1.1", b"OPTIONS / HTTP/1.0", b"get /%zz HTTP/1.1")
STATUS_LINES = (b"HTTP/1.1 200 OK", b"HTTP/1.0 204 No Content", b"HTTP/1.1 103 Early Hints", b"HTTP/1.1 426")

NOT_COMPARED = ("received", "refused", "line")

Verdict = dict[str, object] | type[Exception]
"What a head came to: the attributes of the result, or that it was rejected."


def both() -> tuple[HeadReader, HeadReader]:
    """A reader with our own pass, and one with llhttp."""
    own, llhttp = (HeadReader(HeadValidator(LIMITS, ForwardingSettings()), scans=scans) for scans in (True, False))
    return own, llhttp


def members(result: Request | Response | ResponseHead) -> dict[str, object]:
    names = [name for name in dir(result) if name[0] != "_" and name not in NOT_COMPARED]
    return {name: getattr(result, name) for name in names}


def of_request(reader: HeadReader, data: bytes, before: Request | None = None) -> Verdict:
    try:
        return members(reader.only_request(data, before or Request.refused()) or reader.request(data))
    except RejectedRequest:
        return RejectedRequest


def of_response(reader: HeadReader, data: bytes, *, to_head: bool) -> Verdict:
    try:
        return members(reader.response(data, to_head=to_head))
    except BadResponse:
        return BadResponse


def is_one_head(data: bytes) -> bool:
    """Whether the first blank line is the end: connections pass one head at a time."""
    return data.find(b"\r\n\r\n") == len(data) - 4


def check_request(data: bytes) -> bool:
    """Compare all readers. Returns whether the head was accepted."""
    own, llhttp = both()
    verdict = of_request(own, data)
    assert verdict == of_request(llhttp, data), data
    assert verdict == of_request(own, data), "the second time, and so perhaps from the cache"
    if not isinstance(verdict, dict):
        return False
    fields = [(name.lower(), value.strip(b" \t")) for name, value in verdict["fields"]]  # type: ignore[attr-defined]
    assert read_request(data).fields == fields
    if data.partition(b"\r\n")[0].isascii():  # h11 takes no raw UTF-8 in a target
        assert by_h11(data) == [(n, v.lower() if n == b"transfer-encoding" else v) for n, v in fields]
    return True


def check_second_request(first: bytes, second: bytes) -> bool:
    """Compare the readers for a request behind another one on the same connection, whose lines may come again.
    Returns whether there were such lines."""
    own, llhttp = both()
    before = own.only_request(b"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n", Request.refused())
    assert before is not None
    try:
        before = own.only_request(first, before)
    except RejectedRequest:
        return False
    if before is None:
        return False
    assert of_request(own, second, before) == of_request(llhttp, second), (first, second)
    return any(line and line in second for line in before.received.plain_lines)


def by_h11(data: bytes) -> list[tuple[bytes, bytes]]:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    event = connection.next_event()
    assert isinstance(event, h11.Request)
    return list(event.headers)


def check_response(data: bytes, *, to_head: bool) -> None:
    own, llhttp = both()
    assert of_response(own, data, to_head=to_head) == of_response(llhttp, data, to_head=to_head), data


lines = st.builds(
    lambda *parts: b"".join(parts),
    st.sampled_from(NAMES),
    st.just(b":"),
    st.sampled_from(BLANKS),
    st.sampled_from(VALUES) | st.binary(max_size=8),
    st.sampled_from(BLANKS),
    st.just(b"\r\n"),
)


@st.composite
def blocks(draw: st.DrawFn) -> bytes:
    """A block of fields, with a byte put in here and there."""
    block = b"".join(draw(st.lists(lines, max_size=7)))
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(block)))
        block = block[:at] + draw(st.sampled_from(BYTES)) + block[at + draw(st.integers(0, 1)) :]
    return block + b"\r\n"


@settings(max_examples=120, deadline=None)
@given(start=st.sampled_from(REQUEST_LINES), block=blocks())
@example(start=REQUEST_LINES[0], block=b"Transfer-Encoding: chunked\t\r\n\r\n")
@example(start=REQUEST_LINES[0], block=b"Content-Length: 5\t\r\n\r\n")
def test_of_requests(start: bytes, block: bytes) -> None:
    data = start + b"\r\nHost: shop.test\r\n" + block
    if is_one_head(data):
        check_request(data)


@settings(max_examples=120, deadline=None)
@given(first=blocks(), cut=st.integers(0, 60), second=blocks())
@example(first=b"X-A: a\r\nCookie: a\r\n\r\n", cut=8, second=b"Cookie: ab\r\n\r\n")
@example(first=b"X-A: a\r\nCookie: a\r\n\r\n", cut=8, second=b"Cookie: a\r\nConnection: x-a\r\n\r\n")
def test_of_requests_with_lines_of_another(first: bytes, cut: int, second: bytes) -> None:
    start = b"GET / HTTP/1.1\r\nHost: shop.test\r\n"
    data = start + first[:cut] + second
    if is_one_head(start + first) and is_one_head(data):
        check_second_request(start + first, data)


@settings(max_examples=120, deadline=None)
@given(start=st.sampled_from(STATUS_LINES), block=blocks(), to_head=st.booleans())
@example(start=STATUS_LINES[1], block=b"Transfer-Encoding: chunked\t\r\n\r\n", to_head=False)
@example(start=STATUS_LINES[2], block=b"Content-Length: 5\r\nContent-Length: 5\r\n\r\n", to_head=False)
def test_of_responses(start: bytes, block: bytes, to_head: bool) -> None:
    data = start + b"\r\n" + block
    if is_one_head(data):
        check_response(data, to_head=to_head)


def mutated(heads: list[bytes], number: int, rand: random.Random) -> Iterator[bytes]:
    """So many heads with some of their bytes replaced, put in, left out, or taken from another head."""
    for _ in range(number):
        head = rand.choice(heads)
        for _ in range(rand.randint(1, 2)):
            at, length = rand.randrange(len(head)), rand.choice((0, 0, 1, 1, 2, 9))
            other = rand.choice(heads)
            begin = rand.randrange(len(other))
            new = rand.choice((rand.choice(BYTES), bytes([rand.randrange(256)]), other[begin : begin + 20]))
            head = head[:at] + new + head[at + length :]
        head = head.rstrip(b"\r\n") + b"\r\n\r\n"
        if is_one_head(head) and head[:2] != b"\r\n":
            yield head


def corpus_heads(kind: str, *, hostile: bool) -> list[bytes]:
    """The heads with which the messages of the corpus begin."""
    chosen = [case.data for case in load_corpus(kind) if case.hostile is hostile]
    found = {data.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" for data in chosen}
    return sorted(head for head in found if 8 < len(head) < 2000 and head[:2] != b"\r\n")


@pytest.mark.parametrize("hostile", [False, True])
def test_of_the_corpus(hostile: bool) -> None:
    for head in corpus_heads("request", hostile=hostile):
        check_request(head)
    for head in corpus_heads("response", hostile=hostile):
        check_response(head, to_head=False)


@pytest.mark.parametrize("seed", range(2))
def test_of_mutated_requests_of_the_corpus(seed: int) -> None:
    accepted = [
        check_request(head) for head in mutated(corpus_heads("request", hostile=False), 600, random.Random(seed))
    ]
    assert len(accepted) > 400
    assert 25 < sum(accepted) < len(accepted) - 25


@pytest.mark.parametrize("seed", range(2))
def test_of_mutated_requests_behind_others(seed: int) -> None:
    heads, rand = corpus_heads("request", hostile=False), random.Random(seed)
    repeated = [
        check_second_request(first, second)
        for first in rand.choices(heads, k=200)
        for second in mutated([first], 3, rand)
    ]
    assert sum(repeated) > 50


def test_of_mutated_responses_of_the_corpus() -> None:
    for head in mutated(corpus_heads("response", hostile=False), 600, random.Random(2)):
        check_response(head, to_head=False)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2, 12))
def test_of_many_mutated_heads(seed: int) -> None:
    rand = random.Random(seed)
    for head in mutated(corpus_heads("request", hostile=False), 4000, rand):
        check_request(head)
    for head in mutated(corpus_heads("response", hostile=False), 4000, rand):
        check_response(head, to_head=rand.random() < 0.3)
