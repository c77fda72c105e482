"""Sequences that an edge must not accept: what it says to each of them."""

from tests.corpus_h2.frames import (
    ACK,
    COMPRESSION_ERROR,
    CONTINUATION_,
    DATA_,
    END_HEADERS,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    GOAWAY_,
    PADDED,
    PREFACE,
    PRIORITY,
    PROTOCOL_ERROR,
    PUSH_,
    RST_,
    SETTINGS_,
    STREAM_CLOSED,
    WINDOW_,
    Answered,
    Case,
    block,
    data,
    frame,
    get,
    headers,
    integer,
    ping,
    post,
    priority,
    pseudo,
    raw,
    rst,
    settings,
    window,
)

_P, _F, _S, _W, _C = (
    frozenset({PROTOCOL_ERROR}),
    frozenset({FRAME_SIZE_ERROR}),
    frozenset({STREAM_CLOSED}),
    frozenset({FLOW_CONTROL_ERROR}),
    frozenset({COMPRESSION_ERROR}),
)
_CALM = frozenset({ENHANCE_YOUR_CALM})
_MALFORMED = ((1, PROTOCOL_ERROR),)
_BAD = ((1, 400),)
_CONNECT = [
    (":method", "CONNECT"),
    (":protocol", "websocket"),
    (":scheme", "http"),
    (":path", "/"),
    (":authority", "shop.test"),
]
_BIG = 1 << 14


def without(name: str) -> list[tuple[str, str]]:
    return [pair for pair in pseudo() if pair[0] != name]


CONNECTION_CASES = [
    # the preface
    Case("3.4", "a preface that is HTTP/1.1", [b"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n"], _P, bare=True),
    Case("3.4", "a preface with another letter", [PREFACE[:-5] + b"X\r\n\r\n" + settings()], _P, bare=True),
    Case("3.4", "a preface in lower case", [PREFACE.lower() + settings()], _P, bare=True),
    Case("3.4", "a preface of another version", [PREFACE.replace(b"2.0", b"3.0") + settings()], _P, bare=True),
    Case("3.4", "frames without a preface", [settings() + get(1)], _P, bare=True),
    Case("3.4", "a preface that comes twice", [PREFACE + PREFACE + settings()], _P | _F, bare=True),
    Case("3.4", "no SETTINGS behind the preface, but HEADERS", [PREFACE + get(1)], _P, bare=True),
    Case("3.4", "no SETTINGS behind the preface, but PING", [PREFACE + ping()], _P, bare=True),
    Case("3.4", "no SETTINGS behind the preface, but WINDOW_UPDATE", [PREFACE + window(0, 5)], _P, bare=True),
    Case("3.4", "an ACK of SETTINGS as the first frame", [PREFACE + settings(flags=ACK)], _P, bare=True),
    # frame size
    Case(
        "4.2",
        "DATA larger than SETTINGS_MAX_FRAME_SIZE",
        [post(1, host="hang.test"), data(1, b"x" * (_BIG + 1))],
        _F,
    ),
    Case(
        "4.2", "HEADERS larger than SETTINGS_MAX_FRAME_SIZE", [headers(1, block(*pseudo(), ("x", "y" * _BIG)))], _F
    ),
    Case("4.2", "an unknown frame larger than SETTINGS_MAX_FRAME_SIZE", [frame(99, 0, 0, b"x" * (_BIG + 1))], _F),
    Case("4.2", "SETTINGS larger than SETTINGS_MAX_FRAME_SIZE", [frame(SETTINGS_, 0, 0, b"\0" * (_BIG + 2))], _F),
    Case(
        "4.2",
        "CONTINUATION larger than SETTINGS_MAX_FRAME_SIZE",
        [get(1)[:4] + b"\1" + get(1)[5:], frame(CONTINUATION_, END_HEADERS, 1, b"\0" * (_BIG + 1))],
        _F,
    ),
    # header compression
    Case("4.3", "a header block that is cut", [headers(1, block(*pseudo())[:-2])], _C),
    Case("4.3", "an integer without an end", [headers(1, b"\xff" * 12)], _C),
    Case("4.3", "an index beyond both tables", [headers(1, b"\xfe")], _C),
    Case("4.3", "index 0", [headers(1, b"\x80")], _C),
    Case("4.3", "a table larger than was allowed", [headers(1, b"\x3f\xff\xff\xff\x0f" + block(*pseudo()))], _C),
    Case("4.3", "Huffman code with EOS", [headers(1, block(*pseudo()) + b"\0\x84\xff\xff\xff\xff\x01x")], _C),
    Case("4.3", "Huffman code with long padding", [headers(1, block(*pseudo()) + b"\0\x82\x07\xff\x01x")], _C),
    Case("4.3", "a name longer than the block", [headers(1, b"\0\x7fabc")], _C),
    Case("4.3", "a change of the table in the middle", [headers(1, block(*pseudo()) + b"\x20")], _C),
    Case("4.3", "a bad header block in trailers", [post(1, host="hang.test"), headers(1, b"\xfe")], _C),
    Case(
        "4.3",
        "a bad header block on a stream that was reset",
        [get(1, host="hang.test"), rst(1), headers(1, b"\xfe")],
        _C | _S,
    ),
    # streams
    Case("5.1", "DATA on an idle stream", [data(1)], _P),
    Case("5.1", "RST_STREAM on an idle stream", [rst(1)], _P),
    Case("5.1", "WINDOW_UPDATE on an idle stream", [window(1, 1)], _P),
    Case("5.1", "CONTINUATION on an idle stream", [frame(CONTINUATION_, END_HEADERS, 1, block(*pseudo()))], _P),
    Case(
        "5.1", "PUSH_PROMISE on an idle stream", [frame(PUSH_, END_HEADERS, 1, b"\0\0\0\2" + block(*pseudo()))], _P
    ),
    Case("5.1", "DATA when the client has ended the stream", [get(1, host="hang.test"), data(1)], _S),
    Case("5.1", "empty DATA when the client has ended the stream", [get(1, host="hang.test"), data(1, b"")], _S),
    Case("5.1", "HEADERS when the client has ended the stream", [get(1, host="hang.test"), get(1)], _S),
    Case(
        "5.1", "trailers when the client has ended the stream", [get(1, host="hang.test"), raw(1, ("x-a", "b"))], _S
    ),
    Case("5.1", "DATA behind the trailers", [post(1, host="hang.test"), raw(1, ("x-a", "b")), data(1)], _S),
    Case("5.1", "DATA behind the end of the body", [post(1, host="hang.test"), data(1), data(1)], _S),
    Case(
        "5.1",
        "CONTINUATION when the client has ended the stream",
        [get(1, host="hang.test"), frame(CONTINUATION_, END_HEADERS, 1, b"")],
        _P,
    ),
    Case("5.1", "DATA when the answer has gone out", [get(1), Answered(1), data(1)], _S),
    Case("5.1", "empty DATA when the answer has gone out", [get(1), Answered(1), data(1, b"")], _S),
    Case("5.1", "HEADERS when the answer has gone out", [get(1), Answered(1), get(1)], _S),
    Case("5.1", "HEADERS without END_STREAM when the answer has gone out", [get(1), Answered(1), post(1)], _S),
    Case("5.1", "trailers when the answer has gone out", [get(1), Answered(1), raw(1, ("x-a", "b"))], _S),
    Case(
        "5.1",
        "CONTINUATION when the answer has gone out",
        [get(1), Answered(1), frame(CONTINUATION_, END_HEADERS, 1, b"")],
        _P,
    ),
    Case("5.1", "DATA when the answer to an upload has gone out", [post(1), data(1), Answered(1), data(1)], _S),
    Case("5.1", "DATA when a later stream was opened", [get(1), Answered(1), get(3), Answered(3), data(1)], _S),
    Case("5.1", "DATA when the client has reset the stream", [post(1, host="hang.test"), rst(1), data(1)], _S),
    Case("5.1", "HEADERS when the client has reset the stream", [post(1, host="hang.test"), rst(1), get(1)], _S),
    Case(
        "5.1",
        "HEADERS behind a reset, in another read",
        [get(1, host="hang.test"), rst(1), ping(), get(3), Answered(3), get(1)],
        _S,
    ),
    Case("5.1", "DATA on a stream that was left out", [get(5), Answered(5), data(3)], _S),
    Case("5.1.1", "a stream of even number", [get(2)], _P),
    Case("5.1.1", "a stream of even number behind one of odd number", [get(1), Answered(1), get(2)], _P),
    Case("5.1.1", "a lower stream than before", [get(5), Answered(5), get(3)], _P),
    Case("5.1.1", "a lower stream than before, in one read", [get(5, host="hang.test") + get(3)], _P),
    Case("5.1.1", "a much lower stream than before", [get(101), Answered(101), get(51)], _P),
    Case("5.1.1", "stream 0 with HEADERS", [get(0)], _P),
    # flow control
    Case("6.9.1", "a window of the connection beyond 2^31-1", [window(0, 0x7FFFFFFF)], _W),
    Case(
        "6.9.1",
        "a window of the connection that grows beyond 2^31-1",
        [window(0, 0x7FFF0000), window(0, 0xFFFF)],
        _W,
    ),
    Case("6.9.1", "a window of a stream beyond 2^31-1", [get(1, host="hang.test"), window(1, 0x7FFFFFFF)], _W),
    Case(
        "6.9.2",
        "an initial window beyond 2^31-1 for a stream",
        [get(1, host="hang.test"), window(1, 0x7FFF0000), settings((4, 0x7FFFFFFF))],
        _W,
    ),
    Case("6.9", "WINDOW_UPDATE of 0 for the connection", [window(0, 0)], _P),
    Case("6.9", "WINDOW_UPDATE of 3 bytes", [frame(WINDOW_, 0, 0, b"\0\0\1")], _F),
    Case("6.9", "WINDOW_UPDATE of 5 bytes", [frame(WINDOW_, 0, 0, b"\0\0\0\0\1")], _F),
    # DATA
    Case("6.1", "DATA on stream 0", [data(0)], _P),
    Case(
        "6.1", "padding as long as the frame", [post(1, host="hang.test"), frame(DATA_, PADDED, 1, b"\x04abc")], _P
    ),
    Case(
        "6.1", "padding longer than the frame", [post(1, host="hang.test"), frame(DATA_, PADDED, 1, b"\xffabc")], _P
    ),
    Case("6.1", "padding without its length", [post(1, host="hang.test"), frame(DATA_, PADDED, 1, b"")], _P | _F),
    # HEADERS
    Case(
        "6.2",
        "padding as long as the frame",
        [headers(1, b"\x50" + block(*pseudo())[:20], flags=END_HEADERS | PADDED)],
        _P,
    ),
    Case("6.2", "padding without its length", [headers(1, b"", flags=END_HEADERS | PADDED)], _P | _F),
    Case("6.2", "a priority that is cut", [headers(1, b"\0\0\0", flags=END_HEADERS | PRIORITY)], _P | _F),
    Case("6.2", "DATA inside a header block", [headers(1, block(*pseudo()), flags=0) + data(1)], _P),
    Case("6.2", "PING inside a header block", [headers(1, block(*pseudo()), flags=0) + ping()], _P),
    Case(
        "6.2",
        "an unknown frame inside a header block",
        [headers(1, block(*pseudo()), flags=0) + frame(99, 0, 1)],
        _P,
    ),
    Case("6.2", "SETTINGS inside a header block", [headers(1, block(*pseudo()), flags=0) + settings()], _P),
    Case(
        "6.2",
        "HEADERS of another stream inside a header block",
        [headers(1, block(*pseudo()), flags=0) + get(3)],
        _P,
    ),
    Case("6.2", "RST_STREAM inside a header block", [headers(1, block(*pseudo()), flags=0) + rst(1)], _P),
    # PRIORITY
    Case("6.3", "PRIORITY on stream 0", [priority(0)], _P),
    # RST_STREAM
    Case("6.4", "RST_STREAM on stream 0", [rst(0)], _P),
    Case("6.4", "RST_STREAM of 3 bytes", [get(1, host="hang.test"), frame(RST_, 0, 1, b"\0\0\1")], _F),
    Case("6.4", "RST_STREAM of 5 bytes", [get(1, host="hang.test"), frame(RST_, 0, 1, b"\0\0\0\0\1")], _F),
    Case("6.4", "RST_STREAM without a code", [get(1, host="hang.test"), frame(RST_, 0, 1)], _F),
    # SETTINGS
    Case("6.5", "an ACK with a payload", [settings((3, 1), flags=ACK)], _F),
    Case("6.5", "SETTINGS on a stream", [settings(stream=1)], _P),
    Case("6.5", "SETTINGS whose length is no multiple of 6", [frame(SETTINGS_, 0, 0, b"\0\3\0\0\0")], _F),
    Case("6.5.2", "SETTINGS_ENABLE_PUSH of 2", [settings((2, 2))], _P),
    Case("6.5.2", "SETTINGS_INITIAL_WINDOW_SIZE of 2^31", [settings((4, 1 << 31))], _W),
    Case("6.5.2", "SETTINGS_MAX_FRAME_SIZE of 2^14-1", [settings((5, _BIG - 1))], _P),
    Case("6.5.2", "SETTINGS_MAX_FRAME_SIZE of 2^24", [settings((5, 1 << 24))], _P),
    Case("6.5.2", "SETTINGS_MAX_FRAME_SIZE of 0", [settings((5, 0))], _P),
    Case("8441.3", "SETTINGS_ENABLE_CONNECT_PROTOCOL of 2", [settings((8, 2))], _P),
    Case("9218.2.1", "SETTINGS_NO_RFC7540_PRIORITIES of 2", [settings((9, 2))], _P),
    # PUSH_PROMISE
    Case(
        "8.4",
        "PUSH_PROMISE of a client",
        [get(1, host="hang.test"), frame(PUSH_, END_HEADERS, 1, b"\0\0\0\2" + block(*pseudo()))],
        _P,
    ),
    Case("6.6", "PUSH_PROMISE on stream 0", [frame(PUSH_, END_HEADERS, 0, b"\0\0\0\2" + block(*pseudo()))], _P),
    # PING
    Case("6.7", "PING on a stream", [ping(stream=1)], _P),
    Case("6.7", "PING of 7 bytes", [ping(b"1234567")], _F),
    Case("6.7", "PING of 9 bytes", [ping(b"123456789")], _F),
    Case("6.7", "PING without a payload", [ping(b"")], _F),
    # GOAWAY
    Case("6.8", "GOAWAY on a stream", [frame(GOAWAY_, 0, 1, b"\0" * 8)], _P),
    Case("6.8", "GOAWAY of 7 bytes", [frame(GOAWAY_, 0, 0, b"\0" * 7)], _F),
    # CONTINUATION
    Case(
        "6.10", "CONTINUATION without HEADERS", [get(1), Answered(1), frame(CONTINUATION_, END_HEADERS, 3, b"")], _P
    ),
    Case(
        "6.10",
        "CONTINUATION behind END_HEADERS",
        [post(1, host="hang.test"), frame(CONTINUATION_, END_HEADERS, 1, b"")],
        _P,
    ),
    Case(
        "6.10",
        "CONTINUATION of another stream",
        [headers(1, block(*pseudo()), flags=0) + frame(CONTINUATION_, END_HEADERS, 3, b"")],
        _P,
    ),
    Case(
        "6.10",
        "CONTINUATION on stream 0",
        [headers(1, block(*pseudo()), flags=0) + frame(CONTINUATION_, END_HEADERS, 0, b"")],
        _P,
    ),
    Case(
        "6.10",
        "CONTINUATION behind DATA",
        [post(1, host="hang.test"), data(1, ended=False), frame(CONTINUATION_, END_HEADERS, 1, b"")],
        _P,
    ),
    Case(
        "6.10",
        "CONTINUATION behind CONTINUATION with END_HEADERS",
        [
            headers(1, block(*pseudo("POST", host="hang.test")), ended=False, flags=0)
            + frame(CONTINUATION_, END_HEADERS, 1, b"") * 2
        ],
        _P,
    ),
    Case("9218.7.1", "PRIORITY_UPDATE on a stream", [frame(16, 0, 1, b"\0\0\0\1u=1")], _P),
    Case("9218.7.1", "PRIORITY_UPDATE that is cut", [frame(16, 0, 0, b"\0\0")], _F | _P),
    # floods
    Case(
        "10.5",
        "more CONTINUATION than a head needs",
        [headers(1, block(*pseudo()), flags=0) + frame(CONTINUATION_, 0, 1, b"") * 9],
        _CALM,
    ),
    Case("10.5", "a flood of SETTINGS", [settings() * 1200], _CALM),
    Case("10.5", "a flood of ACKs of SETTINGS", [settings(flags=ACK) * 1200], _CALM),
    Case("10.5", "a flood of PING", [ping() * 1200], _CALM),
    Case("10.5", "a flood of ACKs of PING", [ping(flags=ACK) * 1200], _CALM),
    Case("10.5", "a flood of PRIORITY", [priority(7) * 1200], _CALM),
    Case("10.5", "a flood of PRIORITY_UPDATE", [frame(16, 0, 0, b"\0\0\0\1u=1") * 1200], _CALM),
    Case("10.5", "a flood of unknown frames", [frame(99, 0, 0) * 1200], _CALM),
    Case("10.5", "a flood of WINDOW_UPDATE", [window(0, 1) * 1400], _CALM),
    Case("10.5", "a flood of WINDOW_UPDATE on a stream", [get(1, host="hang.test"), window(1, 1) * 1400], _CALM),
    Case("10.5", "a flood of empty DATA", [post(1, host="hang.test"), data(1, b"", ended=False) * 1200], _CALM),
    Case(
        "10.5",
        "a flood of DATA that is padding only",
        [post(1, host="hang.test"), frame(DATA_, PADDED, 1, b"\0") * 1200],
        _CALM,
    ),
    Case("10.5", "a flood of RST_STREAM for a closed stream", [get(1), Answered(1), rst(1) * 1200], _CALM),
    Case("10.5", "rapid reset", [b"".join(get(n, host="hang.test") + rst(n) for n in range(1, 2402, 2))], _CALM),
    Case(
        "10.5",
        "resets that the client provokes by malformed heads",
        [b"".join(raw(n, (":method", "GET")) for n in range(1, 2402, 2))],
        _CALM,
    ),
    Case(
        "10.5",
        "resets that the client provokes by WINDOW_UPDATE of 0",
        [b"".join(post(n, host="hang.test") + window(n, 0x7FFFFFFF) for n in range(1, 2802, 2))],
        _CALM,
    ),
    Case(
        "10.5",
        "streams beyond the limit, again and again",
        [b"".join(get(n, host="hang.test") for n in range(1, 2802, 2))],
        _CALM,
    ),
    Case(
        "10.5",
        "a header list that is a bomb",
        [headers(1, block(*pseudo()) + b"\x40\x01x" + integer(4000, 7) + b"y" * 4000 + b"\xbe" * 8000)],
        _CALM,
    ),
    Case("10.5", "thousands of empty fields", [headers(1, block(*pseudo()) + block(("x", "")) * 2000)], _CALM),
]
"The connection ends."

STREAM_CASES = [
    Case(
        "8.1.1",
        "a body longer than content-length",
        [post(1, ("content-length", "2"), host="hang.test"), data(1)],
        resets=_MALFORMED,
    ),
    Case(
        "8.1.1",
        "a body shorter than content-length",
        [post(1, ("content-length", "5"), host="hang.test"), data(1)],
        resets=_MALFORMED,
    ),
    Case("8.1.1", "content-length without a body", [get(1, ("content-length", "5"))], resets=_MALFORMED),
    Case(
        "8.1.1",
        "two values of content-length",
        [post(1, ("content-length", "3"), ("content-length", "4"))],
        resets=_MALFORMED,
    ),
    Case(
        "8.1.1",
        "content-length twice",
        [post(1, ("content-length", "3"), ("content-length", "3"))],
        resets=_MALFORMED,
    ),
    Case("8.1.1", "content-length that is no number", [post(1, ("content-length", "3x"))], resets=_MALFORMED),
    Case("8.1.1", "a negative content-length", [post(1, ("content-length", "-3"))], resets=_MALFORMED),
    Case("8.1.1", "an empty content-length", [post(1, ("content-length", ""))], resets=_MALFORMED),
    Case(
        "8.1",
        "trailers without END_STREAM",
        [post(1, host="hang.test"), raw(1, ("x-a", "b"), ended=False)],
        resets=_MALFORMED,
    ),
    Case(
        "8.1",
        "trailers with a pseudo-header field",
        [post(1, host="hang.test"), raw(1, (":path", "/"))],
        resets=_MALFORMED,
    ),
    Case(
        "8.1", "trailers with :status", [post(1, host="hang.test"), raw(1, (":status", "200"))], resets=_MALFORMED
    ),
    Case(
        "8.1",
        "trailers with a name in upper case",
        [post(1, host="hang.test"), raw(1, ("X-A", "b"))],
        resets=_MALFORMED,
    ),
    Case(
        "8.1",
        "trailers with connection",
        [post(1, host="hang.test"), raw(1, ("connection", "close"))],
        resets=_MALFORMED,
    ),
    Case("8.2.1", "a name in upper case", [get(1, ("X-a", "b"))], resets=_MALFORMED),
    Case("8.2.1", "a name with one letter in upper case", [get(1, ("x-A", "b"))], resets=_MALFORMED),
    Case("8.2.1", "a name with a space", [get(1, ("x a", "b"))], resets=_MALFORMED),
    Case("8.2.1", "a name with a colon", [get(1, ("x:a", "b"))], resets=_MALFORMED),
    Case("8.2.1", "a name with a line end", [get(1, ("x\r\na", "b"))], resets=_MALFORMED),
    Case("8.2.1", "a name with a zero byte", [get(1, ("x\0a", "b"))], resets=_MALFORMED),
    Case("8.2.1", "a name beyond ASCII", [get(1, ("x\xe4", "b"))], resets=_MALFORMED),
    Case("8.2.1", "a name with DEL", [get(1, ("x\x7f", "b"))], resets=_MALFORMED),
    Case("8.2.1", "an empty name", [get(1, ("", "b"))], resets=_MALFORMED),
    Case("8.2.1", "a value with a line feed", [get(1, ("x-a", "b\nc"))], resets=_MALFORMED),
    Case("8.2.1", "a value with a carriage return", [get(1, ("x-a", "b\rc"))], resets=_MALFORMED),
    Case("8.2.1", "a value with a field inside", [get(1, ("x-a", "b\r\nx-evil: c"))], resets=_MALFORMED),
    Case("8.2.1", "a value with a zero byte", [get(1, ("x-a", "b\0c"))], resets=_MALFORMED),
    Case("8.2.1", "a value that begins with a space", [get(1, ("x-a", " b"))], resets=_MALFORMED),
    Case("8.2.1", "a value that ends with a space", [get(1, ("x-a", "b "))], resets=_MALFORMED),
    Case("8.2.1", "a value that begins with a tab", [get(1, ("x-a", "\tb"))], resets=_MALFORMED),
    Case("8.2.2", "connection", [get(1, ("connection", "close"))], resets=_MALFORMED),
    Case("8.2.2", "connection: keep-alive", [get(1, ("connection", "keep-alive"))], resets=_MALFORMED),
    Case("8.2.2", "proxy-connection", [get(1, ("proxy-connection", "close"))], resets=_MALFORMED),
    Case("8.2.2", "keep-alive", [get(1, ("keep-alive", "timeout=5"))], resets=_MALFORMED),
    Case("8.2.2", "transfer-encoding", [post(1, ("transfer-encoding", "chunked"))], resets=_MALFORMED),
    Case("8.2.2", "transfer-encoding: identity", [post(1, ("transfer-encoding", "identity"))], resets=_MALFORMED),
    Case("8.2.2", "upgrade", [get(1, ("upgrade", "websocket"))], resets=_MALFORMED),
    Case("8.2.2", "te that is not trailers", [get(1, ("te", "gzip"))], resets=_MALFORMED),
    Case("8.2.2", "te with more than trailers", [get(1, ("te", "trailers, gzip"))], resets=_MALFORMED),
    Case("8.3", "a pseudo-header field that is not known", [raw(1, *pseudo(), (":x", "y"))], resets=_MALFORMED),
    Case("8.3", ":status in a request", [raw(1, *pseudo(), (":status", "200"))], resets=_MALFORMED),
    Case(
        "8.3",
        "a pseudo-header field behind the fields",
        [raw(1, *without(":path"), ("x-a", "b"), (":path", "/"))],
        resets=_MALFORMED,
    ),
    Case("8.3", ":method twice", [raw(1, *pseudo(), (":method", "GET"))], resets=_MALFORMED),
    Case("8.3", ":path twice", [raw(1, *pseudo(), (":path", "/b"))], resets=_MALFORMED),
    Case("8.3", ":scheme twice", [raw(1, *pseudo(), (":scheme", "http"))], resets=_MALFORMED),
    Case("8.3", ":authority twice", [raw(1, *pseudo(), (":authority", "shop.test"))], resets=_MALFORMED),
    Case("8.3.1", "no :method", [raw(1, *without(":method"))], resets=_MALFORMED),
    Case("8.3.1", "no :scheme", [raw(1, *without(":scheme"))], resets=_MALFORMED),
    Case("8.3.1", "no :path", [raw(1, *without(":path"))], resets=_MALFORMED),
    Case("8.3.1", "no pseudo-header fields", [raw(1, ("x-a", "b"))], resets=_MALFORMED),
    Case("8.3.1", "no field at all", [raw(1)], resets=_MALFORMED),
    Case("8.3.1", "neither :authority nor host", [raw(1, *without(":authority"))], resets=_MALFORMED),
    Case("8.3.1", "an empty :path", [raw(1, *pseudo(path=""))], resets=_MALFORMED),
    Case("8.3.1", ":path that is no path", [raw(1, *pseudo(path="a"))], resets=_MALFORMED),
    Case("8.3.1", ":path that is a URL", [raw(1, *pseudo(path="http://other.test/"))], resets=_MALFORMED),
    Case("8.3.1", ":path with a line end", [raw(1, *pseudo(path="/\r\nx: y"))], resets=_MALFORMED),
    Case("8.3.1", ":path * of a GET", [raw(1, *pseudo(path="*"))], resets=_MALFORMED),
    Case("8.3.1", ":method with a space", [raw(1, *pseudo("GE T"))], resets=_MALFORMED),
    Case("8.3.1", "an empty :method", [raw(1, *pseudo(""))], resets=_MALFORMED),
    Case("8.3.1", ":authority with a line end", [raw(1, *pseudo(host="shop.test\r\nx: y"))], resets=_MALFORMED),
    Case(
        "8.3.1",
        "two host fields",
        [raw(1, *without(":authority"), ("host", "shop.test"), ("host", "shop.test"))],
        resets=_MALFORMED,
    ),
    Case(
        "8.5",
        "CONNECT with :path",
        [raw(1, (":method", "CONNECT"), (":authority", "a:1"), (":path", "/"), ended=False)],
        resets=_MALFORMED,
    ),
    Case(
        "8.5",
        "CONNECT with :scheme",
        [raw(1, (":method", "CONNECT"), (":authority", "a:1"), (":scheme", "http"), ended=False)],
        resets=_MALFORMED,
    ),
    Case("8.5", "CONNECT without :authority", [raw(1, (":method", "CONNECT"), ended=False)], resets=_MALFORMED),
    Case("8441.4", ":protocol without CONNECT", [raw(1, *pseudo(), (":protocol", "websocket"))], resets=_MALFORMED),
    Case(
        "8441.4",
        "extended CONNECT without :path",
        [raw(1, *[p for p in _CONNECT if p[0] != ":path"], ended=False)],
        resets=_MALFORMED,
    ),
    Case(
        "8441.4",
        "extended CONNECT without :scheme",
        [raw(1, *[p for p in _CONNECT if p[0] != ":scheme"], ended=False)],
        resets=_MALFORMED,
    ),
    # an answer tells more than a reset
    Case("8.3.1", "host that is not :authority", [get(1, ("host", "other.test"))], statuses=_BAD),
    Case("8.3.1", "host with another port than :authority", [get(1, ("host", "shop.test:81"))], statuses=_BAD),
    Case("8.3.1", ":authority with userinfo", [raw(1, *pseudo(host="u@shop.test"))], resets=_MALFORMED),
    Case("8.3.1", ":authority with a path", [raw(1, *pseudo(host="shop.test/a"))], resets=_MALFORMED),
    Case("8.3.1", ":authority with a port that is none", [raw(1, *pseudo(host="shop.test:x"))], statuses=_BAD),
    Case("8.3.1", "a scheme that is not that of the connection", [raw(1, *pseudo(scheme="https"))], statuses=_BAD),
    Case("8.3.1", "a scheme that is not HTTP", [raw(1, *pseudo(scheme="ftp"))], statuses=_BAD),
    Case("8.3.1", ":path with a fragment", [raw(1, *pseudo(path="/a#b"))], statuses=_BAD),
    Case(
        "8.5",
        "CONNECT",
        [raw(1, (":method", "CONNECT"), (":authority", "shop.test:80"), ended=False)],
        statuses=((1, 501),),
    ),
    Case(
        "8441.4",
        "extended CONNECT for something else than a WebSocket",
        [
            raw(
                1,
                (":method", "CONNECT"),
                (":protocol", "connect-udp"),
                (":scheme", "http"),
                (":path", "/"),
                (":authority", "shop.test"),
                ended=False,
            )
        ],
        statuses=((1, 501),),
    ),
    Case("9110.10.1.1", "an expectation that is not known", [get(1, ("expect", "wonders"))], statuses=((1, 417),)),
    Case("9110.9.3.8", "TRACE", [raw(1, *pseudo("TRACE"))], statuses=((1, 405),)),
    Case("10.5.1", ":path longer than the limit", [raw(1, *pseudo(path="/" + "a" * 9000))], statuses=((1, 414),)),
    Case(
        "10.5.1",
        "a field larger than the limit",
        [
            headers(1, block(*pseudo(), ("x", "y" * 16000))[:16000], flags=0)
            + frame(
                CONTINUATION_,
                END_HEADERS,
                1,
                block(*pseudo(), ("x", "y" * 16000))[16000:] + block(("x-b", "c" * 500)),
            )
        ],
        statuses=((1, 200),),
    ),
    Case(
        "10.5.1",
        "more fields than the limit",
        [headers(1, block(*pseudo(), *[(f"x-{n}", "y") for n in range(250)]))],
        statuses=((1, 431),),
    ),
    Case(
        "8.1",
        "trailers that would change the framing",
        [post(1, host="hang.test"), raw(1, ("content-length", "3"))],
        resets=_MALFORMED,
    ),
    Case(
        "8.1",
        "trailers that would change the host",
        [post(1, host="hang.test"), raw(1, ("host", "other.test"))],
        statuses=_BAD,
    ),
]
"One stream ends, or is answered by the edge; the connection goes on."
