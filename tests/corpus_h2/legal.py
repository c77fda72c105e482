"""Sequences that an edge must serve, however seldom they are seen."""

from tests.corpus_h2.frames import *  # noqa: F403

_OK = ((1, 200),)
_P, _E = PRIORITY, END_HEADERS


def split(stream: int, *parts: bytes, ended: bool = True) -> bytes:
    """One header block in HEADERS and CONTINUATION frames."""
    out = headers(stream, parts[0], ended=ended, flags=0)
    for number, part in enumerate(parts[1:], 2):
        out += frame(CONTINUATION_, END_HEADERS if number == len(parts) else 0, stream, part)
    return out


def padded(kind: int, flags: int, stream: int, payload: bytes, padding: int) -> bytes:
    return frame(kind, flags | PADDED, stream, bytes([padding]) + payload + b"\0" * padding)


_BLOCK = block(*pseudo())

LEGAL_CASES = [
    Case("3.4", "a GET", [get(1)], statuses=_OK),
    Case("3.4", "a request in one read with the preface", [PREFACE + settings() + get(1)], statuses=_OK, bare=True),
    Case("3.4", "SETTINGS that come late", [PREFACE, settings(), get(1)], statuses=_OK, bare=True),
    Case("3.4", "several SETTINGS", [settings(), settings((3, 1)), get(1)], statuses=_OK),
    Case("4.1", "an unknown frame type", [frame(99, 0, 0, b"abc"), get(1)], statuses=_OK),
    Case("4.1", "an unknown frame type on a stream", [post(1), frame(99, 0, 1, b"abc"), data(1)], statuses=_OK),
    Case("4.1", "an unknown frame type on an idle stream", [frame(99, 0, 77, b"abc"), get(1)], statuses=_OK),
    Case("4.1", "flags that are not known", [frame(HEADERS_, 0xC0 | END_HEADERS | END_STREAM, 1, _BLOCK)], statuses=_OK),
    Case("4.1", "flags of PING that are not known", [frame(PING_, 0xF0, 0, b"12345678"), get(1)], statuses=_OK),
    Case("4.1", "the reserved bit of the stream id", [headers(1 | 1 << 31, _BLOCK)], statuses=_OK),
    Case("4.2", "a frame of 2^14 bytes", [post(1), data(1, b"x" * (1 << 14))], statuses=_OK, bodies=((1, b"x" * (1 << 14)),)),
    Case("4.2", "an empty frame at the end of a body", [post(1), data(1, b"abc", ended=False), data(1, b"")], statuses=_OK, bodies=((1, b"abc"),)),
    Case("4.3", "a header block in two frames", [split(1, _BLOCK[:10], _BLOCK[10:])], statuses=_OK),
    Case("4.3", "a header block in eight frames", [split(1, *[_BLOCK[n : n + 12] for n in range(0, len(_BLOCK), 12)][:7], b"".join([_BLOCK[n : n + 12] for n in range(0, len(_BLOCK), 12)][7:]))], statuses=_OK),
    Case("4.3", "a header block whose first frame is empty", [split(1, b"", _BLOCK)], statuses=_OK),
    Case("4.3", "a header block whose last frame is empty", [split(1, _BLOCK, b"")], statuses=_OK),
    Case("4.3", "a header block over several reads", [split(1, _BLOCK[:10], _BLOCK[10:])[:25], split(1, _BLOCK[:10], _BLOCK[10:])[25:]], statuses=_OK),
    Case("4.3", "indexed fields", [headers(1, b"\x82\x86\x84\x41\x09shop.test")], statuses=_OK),
    Case("4.3", "a field from the dynamic table", [headers(1, b"\x82\x86\x84\x41\x09shop.test"), Answered(1), headers(3, b"\x82\x86\x84\xbe")], statuses=((1, 200), (3, 200))),
    Case("4.3", "a smaller table", [headers(1, b"\x20" + _BLOCK)], statuses=_OK),
    Case("4.3", "fields that must never be indexed", [headers(1, _BLOCK + b"\x10\x01x\x01y")], statuses=_OK),
    Case("5.1", "two requests one after the other", [get(1), Answered(1), get(3)], statuses=((1, 200), (3, 200))),
    Case("5.1", "many requests at once", [b"".join(get(n) for n in range(1, 201, 2))], statuses=((1, 200), (101, 200), (199, 200))),
    Case("5.1", "WINDOW_UPDATE when the answer has gone out", [get(1), Answered(1), window(1, 5), get(3)], statuses=((3, 200),)),
    Case("5.1", "RST_STREAM when the answer has gone out", [get(1), Answered(1), rst(1), get(3)], statuses=((3, 200),)),
    Case("5.1", "PRIORITY when the answer has gone out", [get(1), Answered(1), priority(1), get(3)], statuses=((3, 200),)),
    Case("5.1", "an unknown frame when the answer has gone out", [get(1), Answered(1), frame(99, 0, 1), get(3)], statuses=((3, 200),)),
    Case("5.1", "WINDOW_UPDATE when the client has ended the stream", [post(1), data(1), window(1, 5), Answered(1), get(3)], statuses=((1, 200), (3, 200))),
    Case("5.1", "RST_STREAM when the client has ended the stream", [get(1, host="hang.test"), rst(1), get(3)], statuses=((3, 200),)),
    Case("5.1", "RST_STREAM twice", [get(1, host="hang.test"), rst(1), rst(1), get(3)], statuses=((3, 200),)),
    Case("5.1", "WINDOW_UPDATE behind RST_STREAM", [get(1, host="hang.test"), rst(1), window(1, 5), get(3)], statuses=((3, 200),)),
    Case("5.1", "PRIORITY behind RST_STREAM", [get(1, host="hang.test"), rst(1), priority(1), get(3)], statuses=((3, 200),)),
    Case("5.1", "PRIORITY on an idle stream", [priority(7), get(1)], statuses=_OK),
    Case("5.1", "DATA that crosses a reset of the edge", [post(1, ("content-length", "1"), host="hang.test"), data(1, b"abc", ended=False), Reset(1), data(1), get(3)], resets=((1, PROTOCOL_ERROR),), statuses=((3, 200),)),
    Case("5.1", "trailers that cross a reset of the edge", [post(1, ("content-length", "1"), host="hang.test"), data(1, b"abc", ended=False), Reset(1), raw(1, ("x-a", "b")), get(3)], resets=((1, PROTOCOL_ERROR),), statuses=((3, 200),)),
    Case("5.1", "DATA that crosses the reset of a malformed request", [raw(1, (":method", "POST"), ended=False), Reset(1), data(1), get(3)], resets=((1, PROTOCOL_ERROR),), statuses=((3, 200),)),
    Case("5.1", "DATA in one read with a malformed request", [raw(1, (":method", "POST"), ended=False) + data(1) + get(3)], resets=((1, PROTOCOL_ERROR),), statuses=((3, 200),)),
    Case("5.1.1", "streams that are left out", [get(7), Answered(7), get(21)], statuses=((7, 200), (21, 200))),
    Case("5.1.1", "a high first stream", [get(2147483647 - 2)], statuses=((2147483645, 200),)),
    Case("5.1.2", "a stream beyond the limit is refused", [b"".join(get(n, host="hang.test") for n in range(1, 257, 2)) + get(257, host="hang.test")], resets=((257, REFUSED_STREAM),)),
    Case("5.1.2", "a stream beyond the limit is refused, and its body ignored", [b"".join(get(n, host="hang.test") for n in range(1, 257, 2)) + post(257, host="hang.test"), Reset(257), data(257), ping()], resets=((257, REFUSED_STREAM),)),
    Case("5.1.2", "room again behind a reset", [b"".join(get(n, host="hang.test") for n in range(1, 257, 2)), rst(1), get(257)], statuses=((257, 200),)),
    Case("5.3.2", "HEADERS with a priority", [headers(1, b"\0\0\0\0\x10" + _BLOCK, flags=END_HEADERS | PRIORITY)], statuses=_OK),
    Case("5.3.2", "HEADERS with a dependency on an idle stream", [headers(1, b"\x80\0\0\x09\x10" + _BLOCK, flags=END_HEADERS | PRIORITY)], statuses=_OK),
    Case("6.1", "DATA with padding", [post(1), padded(DATA_, END_STREAM, 1, b"abc", 7)], statuses=_OK, bodies=((1, b"abc"),)),
    Case("6.1", "DATA with padding of length 0", [post(1), padded(DATA_, END_STREAM, 1, b"abc", 0)], statuses=_OK, bodies=((1, b"abc"),)),
    Case("6.1", "DATA with 255 bytes of padding", [post(1), padded(DATA_, END_STREAM, 1, b"abc", 255)], statuses=_OK, bodies=((1, b"abc"),)),
    Case("6.1", "a body of many pieces", [post(1), *[data(1, b"%d" % n, ended=False) for n in range(10)], data(1, b"")], statuses=_OK, bodies=((1, b"0123456789"),)),
    Case("6.1", "an empty body", [post(1), data(1, b"")], statuses=_OK, bodies=((1, b""),)),
    Case("6.2", "HEADERS with padding", [padded(HEADERS_, END_HEADERS | END_STREAM, 1, _BLOCK, 9)], statuses=_OK),
    Case("6.2", "HEADERS with padding and a priority", [padded(HEADERS_, END_HEADERS | END_STREAM | PRIORITY, 1, b"\0\0\0\0\x10" + _BLOCK, 9)], statuses=_OK),
    Case("6.5", "SETTINGS without parameters", [settings(), get(1)], statuses=_OK),
    Case("6.5.2", "a setting that is not known", [settings((0xF000, 7)), get(1)], statuses=_OK),
    Case("6.5.2", "a setting twice", [settings((4, 10), (4, 65535)), get(1)], statuses=_OK),
    Case("6.5.2", "SETTINGS_ENABLE_PUSH of 0", [settings((2, 0)), get(1)], statuses=_OK),
    Case("6.5.2", "a table of 0 bytes", [settings((1, 0)), get(1), Answered(1), get(3)], statuses=((1, 200), (3, 200))),
    Case("6.5.2", "SETTINGS_MAX_FRAME_SIZE of 2^24-1", [settings((5, (1 << 24) - 1)), get(1)], statuses=_OK),
    Case("6.5.3", "an ACK of SETTINGS", [settings(flags=ACK), get(1)], statuses=_OK),
    Case("6.7", "PING", [ping(), get(1)], statuses=_OK),
    Case("6.7", "an ACK of a PING that was not sent", [ping(flags=ACK), get(1)], statuses=_OK),
    Case("6.8", "GOAWAY behind a request", [get(1) + goaway()], statuses=_OK),
    Case("6.9", "WINDOW_UPDATE", [window(0, 1000), get(1), window(1, 1000)], statuses=_OK),
    Case("6.9.1", "a window of 0 that is opened later", [settings((4, 0)), get(1), window(1, 100)], statuses=_OK),
    Case("6.9.2", "a window that is opened by SETTINGS", [settings((4, 0)), get(1), settings((4, 100))], statuses=_OK),
    Case("6.9.2", "a window that becomes negative", [settings((4, 3)), get(1), settings((4, 0)), settings((4, 100))], statuses=_OK),
    Case("6.9.1", "a window of 1 byte at a time", [settings((4, 1)), get(1), *[window(1, 1)] * 5], statuses=_OK),
    Case("6.10", "CONTINUATION with trailers", [post(1), data(1, ended=False), split(1, block(("x-a", "b")), block(("x-c", "d")))], statuses=_OK, bodies=((1, b"abc"),)),
    Case("8.1", "trailers", [post(1), data(1, ended=False), raw(1, ("x-a", "b"))], statuses=_OK, bodies=((1, b"abc"),)),
    Case("8.1", "trailers without a body", [post(1), raw(1, ("x-a", "b"))], statuses=_OK, bodies=((1, b""),)),
    Case("8.1.1", "content-length that is right", [post(1, ("content-length", "3")), data(1)], statuses=_OK, bodies=((1, b"abc"),)),
    Case("8.1.1", "content-length of 0 without a body", [get(1, ("content-length", "0"))], statuses=_OK),
    Case("8.1.1", "content-length of 0 with empty DATA", [post(1, ("content-length", "0")), data(1, b"")], statuses=_OK),
    Case("8.2.1", "a value with bytes beyond ASCII", [get(1, ("x-a", "b\xe4"))], statuses=_OK),
    Case("8.2.1", "an empty value", [get(1, ("x-a", ""))], statuses=_OK),
    Case("8.2.1", "a value with a tab inside", [get(1, ("x-a", "b\tc"))], statuses=_OK),
    Case("8.2.2", "te: trailers", [get(1, ("te", "trailers"))], statuses=_OK),
    Case("8.2.3", "cookies in several fields", [get(1, ("cookie", "a=1"), ("cookie", "b=2"))], statuses=_OK),
    Case("8.3.1", "host that is :authority", [get(1, ("host", "shop.test"))], statuses=_OK),
    Case("8.3.1", "host in another case", [get(1, ("host", "SHOP.test"))], statuses=_OK),
    Case("8.3.1", "host without :authority", [raw(1, *[p for p in pseudo() if p[0] != ":authority"], ("host", "shop.test"))], statuses=_OK),
    Case("8.3.1", ":authority with a port", [raw(1, *pseudo(host="shop.test:8080"))], statuses=_OK),
    Case("8.3.1", "pseudo-header fields in another order", [raw(1, *reversed(pseudo()))], statuses=_OK),
    Case("8.3.1", "OPTIONS *", [raw(1, *pseudo("OPTIONS", "*"))], statuses=_OK),
    Case("8.3.1", "a method of its own", [raw(1, *pseudo("PURGE"))], statuses=_OK),
    Case("8.3.1", "HEAD", [raw(1, *pseudo("HEAD"))], statuses=_OK),
    Case("8.7", "a request again behind REFUSED_STREAM", [b"".join(get(n, host="hang.test") for n in range(1, 257, 2)) + get(257), Reset(257), rst(1), get(259)], resets=((257, REFUSED_STREAM),), statuses=((259, 200),)),
    Case("9218.7.1", "PRIORITY_UPDATE", [frame(16, 0, 0, b"\0\0\0\1u=1, i"), get(1)], statuses=_OK),
    Case("9218.4", "the priority field", [get(1, ("priority", "u=0, i"))], statuses=_OK),
    Case("10.5", "some hundred PINGs", [ping() * 500, get(1)], statuses=_OK),
    Case("10.5", "some hundred resets", [b"".join(get(n, host="hang.test") + rst(n) for n in range(1, 401, 2)), get(401)], statuses=((401, 200),)),
]
"They are served; the connection goes on."
