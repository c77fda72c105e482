"""The strict parser of the fuzzer: which messages it calls whole, partial and broken."""

import pytest

from bench.fuzz.fuzz_seeds import LEGAL_REQUESTS, LEGAL_RESPONSES, PLAIN_REQUESTS
from bench.fuzz.recording_backend import h11_disagrees
from bench.fuzz.strict_reader import Faulty, State, Unfinished, read_request, read_requests, read_response

GET = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a.test\r\n"
OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    "data", [*LEGAL_REQUESTS, *PLAIN_REQUESTS], ids=range(len(LEGAL_REQUESTS + PLAIN_REQUESTS))
)
def test_legal_requests_are_whole(data: bytes):
    data = data.replace(b"<number>", b"00000001")
    reading = read_requests(data)
    assert not reading.fault
    assert reading.requests
    assert reading.requests == reading.whole
    assert reading.requests[-1].payload.end == len(data)


@pytest.mark.parametrize("data", LEGAL_RESPONSES, ids=range(len(LEGAL_RESPONSES)))
def test_legal_responses_are_whole(data: bytes):
    response = read_response(data, method=b"GET", ended=True)
    assert response.whole
    assert response.payload.end == len(data)


@pytest.mark.parametrize(
    "data",
    [
        b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.2\r\nHost: a\r\n\r\n",
        b"GET /#x HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET a.test:80 HTTP/1.1\r\nHost: a.test:80\r\n\r\n",
        b"GET * HTTP/1.1\r\nHost: a\r\n\r\n",
        b"CONNECT /a HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET http://a::80/ HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a..b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: [1:2]\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: a\nY: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rY: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n",
        b"GET / HTTP/1.1\nHost: a",
        POST + b"Content-Length: 5, 5\r\n\r\nhello",
        POST + b"Content-Length: +5\r\n\r\nhello",
        POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        POST + b"Content-Length: 12345678901234567\r\n\r\n",
        POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        POST.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"\r\n\r\n" + GET,
    ],
)
def test_heads_that_nobody_should_pass_on(data: bytes):
    with pytest.raises(Faulty):
        read_request(data)


@pytest.mark.parametrize(
    ("body", "state"),
    [
        (b"5\r\nhello\r\n0\r\n\r\n", State.WHOLE),
        (b'5;a = "x;\\"" ; b\r\nhello\r\n0\r\n\r\n', State.BROKEN),
        (b'5; a = "x;\\"";b\r\nhello\r\n00\r\nX: 1\r\n\r\n', State.WHOLE),
        (b"5 \r\nhello\r\n0\r\n\r\n", State.BROKEN),
        (b"5\nhello\n0\n\n", State.PARTIAL),
        (b"5\r\nhelloXX", State.BROKEN),
        (b"5\r\nhello\r", State.PARTIAL),
        (b"00000000000000005\r\nhello\r\n", State.BROKEN),
        (b"0\r\nContent-Length: 1\r\n\r\n", State.BROKEN),
        (b"0\r\n X: 1\r\n\r\n", State.BROKEN),
        (b"0\r\nX: 1\r\n", State.PARTIAL),
    ],
)
def test_chunked_bodies(body: bytes, state: State):
    request = read_request(POST + b"Transfer-Encoding: chunked\r\n\r\n" + body)
    assert request.payload.state is state
    if state is State.WHOLE:
        assert request.payload.content == b"hello"


def test_what_a_proxy_writes_is_read_more_strictly():
    for data in (b"\r\n" + GET, POST + b"Transfer-Encoding: chunked\r\n\r\n1;a\r\nx\r\n0\r\n\r\n"):
        assert read_request(data).whole
    with pytest.raises(Faulty):
        read_request(b"\r\n" + GET, forwarded=True)
    chunked = read_request(POST + b"Transfer-Encoding: chunked\r\n\r\n1;a\r\nx\r\n0\r\n\r\n", forwarded=True)
    assert chunked.payload.state is State.BROKEN


def test_requests_behind_one_another_are_read_up_to_the_first_that_is_not_whole():
    reading = read_requests(
        GET + POST + b"Content-Length: 3\r\n\r\nabc" + GET + b"GET / HTTP/1.1\r\nHost : a\r\n\r\n" + GET
    )
    assert [request.method for request in reading.whole] == [b"GET", b"POST", b"GET"]
    assert "field line" in reading.fault
    cut = read_requests(GET + POST + b"Content-Length: 3\r\n\r\nab")
    assert [request.payload.state for request in cut.requests] == [State.WHOLE, State.PARTIAL]
    assert read_requests(GET + GET[:-1]).requests == read_requests(GET).requests


@pytest.mark.parametrize(
    ("line", "host", "target"),
    [
        (b"GET http://a.test HTTP/1.1", b"a.test", b"/"),
        (b"GET HTTP://A.test:80?x HTTP/1.1", b"a.test", b"/?x"),
        (b"GET http://a.test:80/y HTTP/1.1", b"a.test:", b"/y"),
        (b"OPTIONS http://a.test HTTP/1.1", b"a.test", b"*"),
    ],
)
def test_absolute_targets_become_paths(line: bytes, host: bytes, target: bytes):
    assert read_request(line + b"\r\nHost: " + host + b"\r\n\r\n").target == target


def test_https_is_not_asked_for_without_tls():
    reading = read_requests(b"GET https://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n")
    assert (reading.requests, reading.fault) == ([], "https on a connection without TLS")


def test_how_responses_end():
    def state(data: bytes, *, method: bytes = b"GET", ended: bool = False) -> State:
        return read_response(data, method=method, ended=ended).payload.state

    assert state(OK + b"Content-Length: 2\r\n\r\nok") is State.WHOLE
    assert state(OK + b"Content-Length: 3\r\n\r\nok", ended=True) is State.PARTIAL
    assert state(OK + b"\r\nok", ended=True) is State.WHOLE
    assert state(OK + b"\r\nok") is State.PARTIAL
    assert state(OK + b"Content-Length: 3\r\n\r\n", method=b"HEAD") is State.WHOLE
    assert state(b"HTTP/1.1 304 \r\nContent-Length: 3\r\n\r\n") is State.WHOLE
    early = read_response(
        b"HTTP/1.1 103 Soon\r\n\r\n" + OK + b"Content-Length: 0\r\n\r\n", method=b"GET", ended=False
    )
    assert (early.status, early.interims) == (200, [103])


def test_a_101_is_a_response_only_to_what_was_offered():
    switch = b"HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nbytes"
    response = read_response(switch, method=b"GET", ended=False, upgrades=frozenset({b"websocket"}))
    assert (response.status, response.payload.content, response.whole) == (101, b"bytes", False)
    for offered in (frozenset[bytes](), frozenset({b"h2c"})):
        with pytest.raises(Faulty):
            read_response(switch, method=b"GET", ended=False, upgrades=offered)


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"ICY 200 OK\r\n\r\n",
        OK + b"Content-Length: -1\r\n\r\n",
    ],
)
def test_responses_that_cannot_be_read(data: bytes):
    with pytest.raises(Faulty):
        read_response(data, method=b"GET", ended=True)


def test_half_a_head_is_unfinished():
    with pytest.raises(Unfinished):
        read_request(GET[:-2])
    with pytest.raises(Unfinished):
        read_response(OK, method=b"GET", ended=True)


def test_h11_is_asked_too():
    request = read_request(POST + b"Content-Length: 2\r\n\r\nok")
    assert h11_disagrees(request, POST + b"Content-Length: 2\r\n\r\nok") == ""
    assert "another body" in h11_disagrees(request, POST + b"Content-Length: 2\r\n\r\nno")
    assert "waits" in h11_disagrees(request, POST + b"Content-Length: 3\r\n\r\nok")
    assert "h11: " in h11_disagrees(request, b"POST / HTTP/1.1\r\n\r\n")
