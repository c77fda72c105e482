"""Frames of HTTP/2, legal or not, as the fuzzer makes, cuts and changes them (RFC 9113, section 4). Pure."""

from collections.abc import Sequence
from typing import NamedTuple

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
PRIORITY_UPDATE = 16
END_STREAM, ACK, END_HEADERS, PADDED, WITH_PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
MOST = 1 << 14
"Bytes of a payload, unless the other side allows more."

Pairs = Sequence[tuple[bytes, bytes]]


class Frame(NamedTuple):
    """One frame. `size`: the length that its head tells, if it is not that of the payload."""

    kind: int
    flags: int
    stream: int
    payload: bytes = b""
    size: int | None = None

    def encoded(self) -> bytes:
        size = len(self.payload) if self.size is None else self.size
        head = size.to_bytes(3, "big") + bytes((self.kind & 255, self.flags & 255))
        return head + (self.stream & 0xFFFFFFFF).to_bytes(4, "big") + self.payload


def encoded(frames: Sequence[Frame]) -> bytes:
    """The bytes of these frames."""
    return b"".join(frame.encoded() for frame in frames)


def frames_of(data: bytes) -> tuple[list[Frame], bytes]:
    """The whole frames in these bytes, and what is left."""
    frames, at = [], 0
    while at + 9 <= len(data):
        end = at + 9 + int.from_bytes(data[at : at + 3], "big")
        if end > len(data):
            break
        stream = int.from_bytes(data[at + 5 : at + 9], "big") & 0x7FFFFFFF
        frames.append(Frame(data[at + 3], data[at + 4], stream, data[at + 9 : end]))
        at = end
    return frames, data[at:]


def heads_of(data: bytes) -> list[int]:
    """The streams of the HEADERS frames among these whole frames."""
    found, at = [], 0
    while at + 9 <= len(data):
        if data[at + 3] == HEADERS:
            found.append(int.from_bytes(data[at + 5 : at + 9], "big") & 0x7FFFFFFF)
        at += 9 + int.from_bytes(data[at : at + 3], "big")
    return found


def integer(value: int, prefix: int, first: int = 0) -> bytes:
    """RFC 7541, section 5.1."""
    most = (1 << prefix) - 1
    if value < most:
        return bytes([first | value])
    out, value = [first | most], value - most
    while value >= 128:
        out.append(value % 128 + 128)
        value //= 128
    return bytes([*out, value])


def literal_block(pairs: Pairs) -> bytes:
    """A header block of literals, which changes no table (RFC 7541, section 6.2.2)."""
    return b"".join(b"\0" + integer(len(n), 7) + n + integer(len(v), 7) + v for n, v in pairs)
