"""Frames of HTTP/2 by hand, legal or not, and the words of the sequences (RFC 9113, sections 4, 6).

HPACK is stateless here: every field is a literal that is not indexed (RFC 7541, section 6.2.2).
"""

from collections.abc import Sequence
from typing import NamedTuple

from bench.fuzz_h2.frames import integer

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
DATA_, HEADERS_, PRIORITY_, RST_, SETTINGS_, PUSH_, PING_, GOAWAY_, WINDOW_, CONTINUATION_ = range(10)
NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED = range(6)
FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, CONNECT_ERROR, ENHANCE_YOUR_CALM = range(6, 12)

MOST = 1 << 14
"Bytes of a frame at most."
Pairs = Sequence[tuple[str, str]]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"", *, size: int | None = None) -> bytes:
    """Any frame; `size`: another length than that of the payload."""
    length = len(payload) if size is None else size
    return length.to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def block(*pairs: tuple[str, str]) -> bytes:
    """A header block."""
    out = b""
    for name, value in pairs:
        n, v = name.encode("latin-1"), value.encode("latin-1")
        out += b"\0" + integer(len(n), 7) + n + integer(len(v), 7) + v
    return out


def pseudo(method: str = "GET", path: str = "/", host: str = "shop.test", scheme: str = "http") -> Pairs:
    return [(":method", method), (":scheme", scheme), (":path", path), (":authority", host)]


def headers(stream: int, fields: bytes, *, ended: bool = True, flags: int = END_HEADERS) -> bytes:
    return frame(HEADERS_, flags | (END_STREAM if ended else 0), stream, fields)


def get(stream: int, *more: tuple[str, str], host: str = "shop.test", ended: bool = True) -> bytes:
    """A request without a body, or whose body is still to come."""
    return headers(stream, block(*pseudo("GET" if ended else "POST", host=host), *more), ended=ended)


def post(stream: int, *more: tuple[str, str], host: str = "shop.test") -> bytes:
    return get(stream, *more, host=host, ended=False)


def raw(stream: int, *pairs: tuple[str, str], ended: bool = True) -> bytes:
    """A request with just these pairs."""
    return headers(stream, block(*pairs), ended=ended)


def long_list(stream: int, size: int, *, longest: int = 4000) -> bytes:
    """A request whose fields have `size` bytes, in as many frames as it takes."""
    count, rest = divmod(size, longest)
    fields = block(*pseudo(), *[(f"x-{n}", "y" * longest) for n in range(count)], ("x-rest", "y" * rest))
    parts = [fields[at : at + MOST] for at in range(0, len(fields), MOST)]
    out = headers(stream, parts[0], flags=0 if len(parts) > 1 else END_HEADERS)
    for number, part in enumerate(parts[1:], 2):
        out += frame(CONTINUATION_, END_HEADERS if number == len(parts) else 0, stream, part)
    return out


def data(stream: int, payload: bytes = b"abc", *, ended: bool = True) -> bytes:
    return frame(DATA_, END_STREAM if ended else 0, stream, payload)


def rst(stream: int, code: int = CANCEL) -> bytes:
    return frame(RST_, 0, stream, code.to_bytes(4, "big"))


def window(stream: int, increment: int) -> bytes:
    return frame(WINDOW_, 0, stream, increment.to_bytes(4, "big"))


def settings(*pairs: tuple[int, int], flags: int = 0, stream: int = 0) -> bytes:
    payload = b"".join(key.to_bytes(2, "big") + value.to_bytes(4, "big") for key, value in pairs)
    return frame(SETTINGS_, flags, stream, payload)


def ping(payload: bytes = b"12345678", *, flags: int = 0, stream: int = 0) -> bytes:
    return frame(PING_, flags, stream, payload)


def priority(stream: int, on: int = 0, weight: int = 15) -> bytes:
    return frame(PRIORITY_, 0, stream, on.to_bytes(4, "big") + bytes([weight]))


def goaway(last: int = 0, code: int = 0) -> bytes:
    return frame(GOAWAY_, 0, 0, last.to_bytes(4, "big") + code.to_bytes(4, "big"))


class Answered(NamedTuple):
    """Wait until the response of this stream is complete."""

    stream: int


class Reset(NamedTuple):
    """Wait until this stream was reset."""

    stream: int


class Case(NamedTuple):
    """A sequence on a connection of its own, behind the preface and SETTINGS unless it is `bare`."""

    section: str
    "Of RFC 9113, or another RFC by its name."
    rule: str
    steps: Sequence[bytes | Answered | Reset]
    goaway: frozenset[int] = frozenset()
    "The connection ends with one of these codes."
    resets: tuple[tuple[int, int], ...] = ()
    "Streams that are reset, with the code; the connection goes on."
    statuses: tuple[tuple[int, int], ...] = ()
    "Streams that are answered, with the status; the connection goes on."
    bare: bool = False
    bodies: tuple[tuple[int, bytes], ...] = ()
    "What reached the backend."

    def __str__(self) -> str:
        return f"{self.section}: {self.rule}"
