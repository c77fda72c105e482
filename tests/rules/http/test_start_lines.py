"""Request lines and status lines: one reading, or an error."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.rules.http.framing import BadResponse, RejectedRequest
from edge.rules.http.start_lines import (
    LONGEST_METHOD,
    likely_request_line,
    plain_request_line,
    read_request_line,
    read_status_line,
    scan_request_line,
)
from edge.rules.outcomes import Cause


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        (b"GET / HTTP/1.1", (b"GET", b"/", 1)),
        (b"get /a%2Fb?c=d HTTP/1.0", (b"get", b"/a%2Fb?c=d", 0)),
        (b"M-SEARCH * HTTP/1.1", (b"M-SEARCH", b"*", 1)),
        (b"!#$%&'*+-.^_`|~09Az x HTTP/1.1", (b"!#$%&'*+-.^_`|~09Az", b"x", 1)),
        (b"GET /\xc3\xa4\xff HTTP/1.1", (b"GET", b"/\xc3\xa4\xff", 1)),
        (b'GET /"<>\\^`{|} HTTP/1.1', (b"GET", b'/"<>\\^`{|}', 1)),
        (b"A" * LONGEST_METHOD + b" / HTTP/1.1", (b"A" * LONGEST_METHOD, b"/", 1)),
    ],
)
def test_request_lines(line: bytes, parts: tuple[bytes, bytes, int]) -> None:
    assert read_request_line(line) == parts


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"GET /",
        b"GET  / HTTP/1.1",
        b"GET /  HTTP/1.1",
        b" GET / HTTP/1.1",
        b"GET / HTTP/1.1 ",
        b"GET\t/ HTTP/1.1",
        b"GET /\x0bHTTP/1.1",
        b"GET /a b HTTP/1.1",
        b"GET /#a HTTP/1.1",
        b"GET /\x00 HTTP/1.1",
        b"GET /\x7f HTTP/1.1",
        b"GET /\r HTTP/1.1",
        b"GE(T / HTTP/1.1",
        b"G\xc3T / HTTP/1.1",
        b"A" * (LONGEST_METHOD + 1) + b" / HTTP/1.1",
        b"GET / http/1.1",
        b"GET / HTTP/1",
        b"GET / HTTP/1.10",
        b"GET / HTTP/11",
        b"GET / HTTP/1.x",
        b"GET / HTTP /1.1",
        b"GET / XHTTP/1.1",
        b"HTTP/1.1 200 OK",
    ],
)
def test_invalid_request_lines(line: bytes) -> None:
    with pytest.raises(RejectedRequest) as refusal:
        read_request_line(line)
    assert refusal.value.cause is Cause.BAD_REQUEST


@pytest.mark.parametrize("version", [b"0.9", b"1.2", b"2.0", b"3.0", b"9.9", b"0.0"])
def test_other_versions(version: bytes) -> None:
    with pytest.raises(RejectedRequest) as refusal:
        read_request_line(b"GET / HTTP/" + version)
    assert refusal.value.cause is Cause.BAD_VERSION
    with pytest.raises(BadResponse):
        read_status_line(b"HTTP/" + version + b" 200 OK")


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        (b"HTTP/1.1 200 OK", (200, b"OK", 1)),
        (b"HTTP/1.0 404 Not Found", (404, b"Not Found", 0)),
        (b"HTTP/1.1 200 ", (200, b"", 1)),
        (b"HTTP/1.1 200", (200, b"", 1)),
        (b"HTTP/1.1 999  two blanks\tand a tab \xe4", (999, b" two blanks\tand a tab \xe4", 1)),
        (b"HTTP/1.1 100 Continue", (100, b"Continue", 1)),
    ],
)
def test_status_lines(line: bytes, parts: tuple[int, bytes, int]) -> None:
    assert read_status_line(line) == parts


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"200 OK",
        b"ICY 200 OK",
        b"HTTP/1.1  200 OK",
        b"HTTP/1.1 20 OK",
        b"HTTP/1.1 2000 OK",
        b"HTTP/1.1 099 OK",
        b"HTTP/1.1 2x0 OK",
        b"HTTP/1.1 -20 OK",
        b"HTTP/1.1 200OK",
        b"HTTP/1.1 200\tOK",
        b"HTTP/1.1 200 a\x00b",
        b"HTTP/1.1 200 a\rb",
        b" HTTP/1.1 200 OK",
        b"http/1.1 200 OK",
        b"HTTP/1.12 200 OK",
    ],
)
def test_invalid_status_lines(line: bytes) -> None:
    with pytest.raises(BadResponse):
        read_status_line(line)


@pytest.mark.parametrize(
    ("data", "seen"),
    [
        (b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", (b"GET", b"/a")),
        (b"GET", (b"GET", b"")),
        (b"\x16\x03\x01\x00", (b"", b"")),
        (b"PROXY TCP4 192.0.2.1", (b"PROXY", b"TCP4")),
        (b"GET /" + b"x" * 1000, (b"GET", b"/" + b"x" * 251)),
        (b"", (b"", b"")),
    ],
)
def test_method_and_target_for_the_log_of_an_unreadable_head(data: bytes, seen: tuple[bytes, bytes]) -> None:
    assert likely_request_line(data) == seen


# Plain request lines


def check_plain(line: bytes) -> tuple[bytes, bytes]:
    """Both ways agree, and with the strict parser."""
    found = scan_request_line(line)
    assert found == plain_request_line(line), line
    if found[0]:
        assert read_request_line(line) == (*found, 1)
    return found


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"PATCH"])
def test_plain_request_lines(method: bytes) -> None:
    for target in (b"/", b"/a?b=c&d", b"/%2F//x;y'z~", b"/HTTP/1.1"):
        assert check_plain(b"%b %b HTTP/1.1" % (method, target)) == (method, target)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b" HTTP/1.1",
        b"GET HTTP/1.1",
        b"PATCH HTTP/1.1",
        b"DELETE HTTP/1.1",
        b"GET / HTTP/1.0",
        b"GET / HTTP/1.1 ",
        b"GET  / HTTP/1.1",
        b"GET /a b HTTP/1.1",
        b"GET * HTTP/1.1",
        b"GET http://a/ HTTP/1.1",
        b"get / HTTP/1.1",
        b"OPTIONS / HTTP/1.1",
        b"GETS / HTTP/1.1",
        b"DELETED / HTTP/1.1",
        b"PU / HTTP/1.1",
    ],
)
def test_others_are_not_plain(line: bytes) -> None:
    assert check_plain(line) == (b"", b"")


def test_each_byte_of_a_plain_line_is_judged() -> None:
    for byte in range(256):
        for line in (b"GET /a%cb HTTP/1.1", b"GE%c / HTTP/1.1", b"GET%c/ HTTP/1.1", b"GET / HTTP/1.%c"):
            check_plain(line % byte)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.sampled_from([b"GET", b"DELETE", b" ", b"/", b"a", b"?", b"#", b" HTTP/1.1", b"\xff"]), max_size=7)
)
def test_both_ways_agree_about_plain_lines(parts: list[bytes]) -> None:
    check_plain(b"".join(parts))
