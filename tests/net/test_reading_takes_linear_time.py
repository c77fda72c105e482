"""One line of a client costs microseconds, whatever it is made of: no expression backtracks.

Fields of 16,000 bytes of one repeated piece, with an end that does not fit. What is read in one pass takes a few
milliseconds at most; what tries every way of sharing out the bytes takes seconds, and with it the whole worker.
"""

from collections.abc import Callable
from contextlib import suppress
from time import process_time

import pytest

from edge.net.h1.head_reader import HeadReader
from edge.rules.http.framing import ChunkedBody
from edge.rules.http.head_validation import HeadValidator
from edge.rules.settings import ForwardingSettings, LimitSettings

LENGTH = 16_000
LONGEST = 0.25
PIECES = (
    b" ",
    b"\t",
    b",",
    b", ",
    b" ,",
    b"a",
    b"a,",
    b"a ",
    b";",
    b"a=b;",
    b'"',
    b'\\"',
    b'a="',
    b"1",
    b".",
    b":",
    b"[",
)
PIECES += (b"%00", b"\xff", b"-", b"chunked,", b"5,", b"=", b"1.1 styx,")
ENDS = (b"", b"\x00", b"x")
NAMES = (
    b"Host",
    b"Connection",
    b"Via",
    b"Upgrade",
    b"Transfer-Encoding",
    b"Content-Length",
    b"Cookie",
    b"Expect",
    b"TE",
)
NAMES += (b"X-Forwarded-For", b"Max-Forwards", b"X-Request-Id", b"Keep-Alive", b"X-Anything")


def takes(read: Callable[[], object]) -> float:
    began = process_time()
    with suppress(Exception):  # most of it is refused
        read()
    return process_time() - began


@pytest.fixture
def head_reader() -> HeadReader:
    return HeadReader(HeadValidator(LimitSettings(), ForwardingSettings()))


@pytest.mark.parametrize("piece", PIECES)
def test_no_line_takes_longer_than_its_length(head_reader: HeadReader, piece: bytes) -> None:
    slow: dict[str, float] = {}
    for end in ENDS:
        value = (piece * LENGTH)[:LENGTH] + end
        readings: dict[str, Callable[[], object]] = {}
        for name in NAMES:
            field = name + b": " + value + b"\r\n\r\n"
            readings[f"request {name!r}"] = lambda f=field: head_reader.request(
                b"GET / HTTP/1.1\r\nHost: a.test\r\n" + f
            )
            readings[f"answer {name!r}"] = lambda f=field: head_reader.response(
                b"HTTP/1.1 200 OK\r\n" + f, to_head=False
            )
        for line in (b"GET /%b HTTP/1.1", b"GET http://%b HTTP/1.1", b"%b / HTTP/1.1", b"GET / HTTP/1.1%b"):
            head = line % value + b"\r\nHost: a\r\n\r\n"
            readings[f"request line {line!r}"] = lambda h=head: head_reader.request(h)
        readings["status line"] = lambda v=value: head_reader.response(
            b"HTTP/1.1 200 " + v + b"\r\n\r\n", to_head=False
        )
        for sent in (
            b"5%b\r\nhello\r\n0\r\n\r\n",
            b"5;%b\r\nhello\r\n0\r\n\r\n",
            b"0\r\nX:%b\r\n\r\n",
            b"0\r\n%b:\r\n\r\n",
        ):
            body = sent % value
            readings[f"chunks {sent!r}"] = lambda b=body: ChunkedBody(LimitSettings()).feed(b)
        for what, read in readings.items():
            took = takes(read)
            if took > LONGEST:
                slow[f"{what} ending with {end!r}"] = took
    assert not slow
