"""The C parser, on one head."""

import pytest

from edge.net.h1.llhttp_parser import request_head, response_head
from edge.rules.http.framing import BadResponse, RejectedRequest
from edge.rules.outcomes import Cause

FIELDS = b"Host: a.test\r\nAccept: */*\r\n"


def test_a_request():
    head = request_head(b"GET /a?b HTTP/1.1\r\n" + FIELDS + b"\r\n")
    assert (head.method, head.target, head.minor) == (b"GET", b"/a?b", 1)
    assert head.fields == [(b"Host", b"a.test"), (b"Accept", b"*/*")]


def test_repeated_names_stay_in_order():
    lines = [b"Cookie: a", b"X-A: 1", b"Cookie: b", b"cookie: c", b"X-A: 1", b"Cookie: a"]
    head = request_head(b"GET / HTTP/1.1\r\n" + b"\r\n".join(lines) + b"\r\n\r\n")
    assert [name + b": " + value for name, value in head.fields] == lines
    response = response_head(b"HTTP/1.1 200 OK\r\n" + b"\r\n".join(lines) + b"\r\n\r\n")
    assert response.fields == head.fields


def test_blanks_before_a_value_are_stripped():
    """Blanks behind a value are stripped by `hop_by_hop.FieldFilter`."""
    head = request_head(b"GET / HTTP/1.1\r\nA:1\r\nB: \t 2 3 \t \r\nC: \r\n\r\n")
    assert [(name, value.rstrip()) for name, value in head.fields] == [(b"A", b"1"), (b"B", b"2 3"), (b"C", b"")]


@pytest.mark.parametrize("target", ["/ä", "/a?ü=🙂", "/\xff", "/" + "é" * 1000])
def test_raw_bytes_in_a_target(target):
    raw = target.encode()
    head = request_head(b"GET " + raw + b" HTTP/1.1\r\n" + FIELDS + b"\r\n")
    assert head.target == raw
    assert head.fields[0] == (b"Host", b"a.test")


@pytest.mark.parametrize(
    "data",
    [
        b"G\xc3T / HTTP/1.1\r\n\r\n",
        b"GET \xc3\xa4 HTTP/1.1 \xc3\r\n\r\n",
        b"GET /\xc3 b HTTP/1.1\r\n\r\n",
        b"GET /\xc3\x00 HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nX-\xc3: 1\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: 1\r\n B: 2\r\n\r\n",
        b"GET / HTTP/1.1\r\nA : 1\r\n\r\n",
        b"GET / HTTP/1.1\r\nA\r\n\r\n",
    ],
)
def test_bad_requests(data):
    with pytest.raises(RejectedRequest):
        request_head(data)


@pytest.mark.parametrize(("version", "minor"), [(b"HTTP/1.0", 0), (b"HTTP/1.1", 1)])
def test_versions(version, minor):
    assert request_head(b"GET / " + version + b"\r\n\r\n").minor == minor
    assert response_head(version + b" 200 OK\r\n\r\n").minor == minor


def test_other_versions():
    with pytest.raises(RejectedRequest) as rejection:
        request_head(b"GET / HTTP/2.0\r\n\r\n")
    assert rejection.value.cause is Cause.BAD_VERSION
    for version in (b"HTTP/2.0", b"HTTP/0.9", b"HTTP/1.2", b"ICY"):
        with pytest.raises(BadResponse):
            response_head(version + b" 200 OK\r\n\r\n")


@pytest.mark.parametrize(
    ("line", "status", "reason"),
    [
        (b"HTTP/1.1 200 OK", 200, b"OK"),
        (b"HTTP/1.1 404 Not Found Here", 404, b"Not Found Here"),
        (b"HTTP/1.1 200 ", 200, b""),
        (b"HTTP/1.1 200", 200, b""),
        (b"HTTP/1.1 560 Another", 560, b"Another"),
    ],
)
def test_status_lines(line, status, reason):
    head = response_head(line + b"\r\nA: 1\r\n\r\n")
    assert (head.status, head.reason, head.fields) == (status, reason, [(b"A", b"1")])


@pytest.mark.parametrize("offer", [b"websocket", b"h2c", b"h2,h2c"])
def test_a_head_with_upgrade_is_parsed_to_its_end(offer):
    """Apache sends an Upgrade field with every response."""
    lines = b"Connection: Upgrade\r\nUpgrade: " + offer + b"\r\nContent-Length: 2\r\n\r\n"
    assert len(request_head(b"GET / HTTP/1.1\r\n" + lines).fields) == 3
    assert len(request_head(b"POST / HTTP/1.1\r\n" + lines).fields) == 3
    assert len(response_head(b"HTTP/1.1 200 OK\r\n" + lines).fields) == 3


@pytest.mark.parametrize(
    "data",
    [
        b"hello\r\n\r\n",
        b"HTTP/1.1 20x OK\r\n\r\n",
        b"HTTP/1.1 99999 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA : 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: 1\r\n 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: 1\x002\r\n\r\n",
    ],
)
def test_bad_responses(data):
    with pytest.raises(BadResponse):
        response_head(data)
