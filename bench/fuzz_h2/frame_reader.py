"""Strict readers of HTTP/2 that share no code with `edge` or nghttp2: of what a client sent, and of what came back.

What the edge may forward is what the first one calls a request. Where RFC 9113 lets a receiver end a stream or a
connection, it goes on: it judges what was forwarded, not what was refused. Pure. Sections are of RFC 9113.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import hpack

from bench.fuzz.strict_reader import Pairs, Payload, RequestMessage, State, valid_host
from bench.fuzz_h2 import frames as f
from bench.fuzz_h2.frames import Frame

MOST_BLOCK = 1 << 22
"Bytes of a header list."
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_VALUE = re.compile(rb"(?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?")
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_TARGET = re.compile(rb"/[\x21\x22\x24-\x7e\x80-\xff]*|\*")
_PSEUDO = (b":method", b":scheme", b":path", b":authority", b":protocol")
OF_CONNECTION = frozenset((b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"))
_NOT_IN_TRAILERS = frozenset((b"content-length", b"host"))
_SIZES = {f.PRIORITY: 5, f.RST_STREAM: 4, f.PING: 8, f.WINDOW_UPDATE: 4}
_ON_STREAM = frozenset((f.DATA, f.HEADERS, f.PRIORITY, f.RST_STREAM, f.CONTINUATION, f.PUSH_PROMISE))
_ON_CONNECTION = frozenset((f.SETTINGS, f.PING, f.GOAWAY, f.PRIORITY_UPDATE))


class ConnectionFault(Exception):
    """Nothing behind this may be processed."""


@dataclass(slots=True)
class SentStream:
    """What a client sent on one stream."""

    stream: int
    request: RequestMessage | None
    "The request that it is; None = it must not be forwarded. Its payload grows with the stream."
    is_tunnel: bool = False
    length: int | None = None
    "As announced."
    ended: bool = False
    reset: bool = False


@dataclass(slots=True)
class SentReading:
    """All that a client sent on one connection."""

    streams: dict[int, SentStream] = field(default_factory=dict)
    fault: str = ""
    "Why the connection ends."
    is_calm: bool = True
    "Whether there is nothing but settings and requests: then each of them must be served."
    window: int = 65_535
    "Bytes of all responses together for which there was credit."
    stream_windows: dict[int, int] = field(default_factory=dict)
    "Credit of streams, beyond the initial window."
    initial_window: int = 65_535
    "The largest that was ever set."
    largest_frame: int = f.MOST


class SentReader:
    """Reads the frames of a client."""

    def __init__(self) -> None:
        self.reading = SentReading()
        self._decoder = hpack.Decoder(max_header_list_size=MOST_BLOCK)
        self._block: tuple[Frame, list[bytes]] | None = None
        "A header block that is not complete, with the frame that began it."
        self._highest = 0
        self._is_first = True

    def read(self, data: bytes) -> SentReading:
        if not data.startswith(f.PREFACE):
            self.reading.fault = "no preface"
            return self.reading
        found, rest = f.frames_of(data[len(f.PREFACE) :])
        try:
            for frame in found:
                self._take(frame)
        except ConnectionFault as fault:
            self.reading.fault = str(fault)
        if rest:
            self.reading.is_calm = False
        return self.reading

    def _take(self, frame: Frame) -> None:
        reading = self.reading
        if self._is_first and (frame.kind != f.SETTINGS or frame.flags & f.ACK):
            raise ConnectionFault("no SETTINGS behind the preface")
        self._is_first = False
        if len(frame.payload) > f.MOST:
            raise ConnectionFault("a frame that is too large")
        if self._block is not None and (frame.kind != f.CONTINUATION or frame.stream != self._block[0].stream):
            raise ConnectionFault("a header block that is interrupted")
        if (frame.kind in _ON_STREAM and not frame.stream) or (frame.kind in _ON_CONNECTION and frame.stream):
            raise ConnectionFault("the wrong stream")
        if frame.kind in _SIZES and len(frame.payload) != _SIZES[frame.kind] and frame.kind != f.PRIORITY:
            raise ConnectionFault("the wrong size")
        reading.is_calm = reading.is_calm and frame.kind in (f.DATA, f.HEADERS, f.CONTINUATION, f.SETTINGS)
        match frame.kind:
            case f.DATA:
                self._data(frame)
            case f.HEADERS:
                self._headers(frame)
            case f.CONTINUATION:
                self._continue(frame)
            case f.RST_STREAM:
                self._reset(frame)
            case f.SETTINGS:
                self._settings(frame)
            case f.PUSH_PROMISE:
                raise ConnectionFault("PUSH_PROMISE of a client")
            case f.WINDOW_UPDATE:
                self._window(frame)

    def _content(self, frame: Frame) -> bytes:
        """The payload without padding and priority. Section 6.1."""
        payload = frame.payload
        if frame.flags & f.PADDED:
            if not payload or payload[0] >= len(payload):
                raise ConnectionFault("padding longer than the payload")
            payload = payload[1 : len(payload) - payload[0]]
        if frame.kind == f.HEADERS and frame.flags & f.WITH_PRIORITY:
            if len(payload) < 5:
                raise ConnectionFault("a priority that is cut")
            payload = payload[5:]
        return payload

    def _headers(self, frame: Frame) -> None:
        if not frame.stream & 1:
            raise ConnectionFault("HEADERS on a stream of even number")
        content = self._content(frame)
        if frame.flags & f.END_HEADERS:
            self._block_done(frame, content)
        else:
            self._block = (frame, [content])

    def _continue(self, frame: Frame) -> None:
        if self._block is None:
            raise ConnectionFault("CONTINUATION of nothing")
        first, parts = self._block
        parts.append(frame.payload)
        if frame.flags & f.END_HEADERS:
            self._block = None
            self._block_done(first, b"".join(parts))

    def _block_done(self, frame: Frame, block: bytes) -> None:
        try:
            fields = [(bytes(name), bytes(value)) for name, value in self._decoder.decode(block, raw=True)]
        except hpack.HPACKError as error:
            raise ConnectionFault(f"HPACK: {error}") from error
        ended, known = bool(frame.flags & f.END_STREAM), self.reading.streams.get(frame.stream)
        if known is not None:
            self._trailers(known, fields, ended=ended)
            return
        if frame.stream <= self._highest:
            raise ConnectionFault("a stream id lower than an earlier one")
        self._highest = frame.stream
        self.reading.streams[frame.stream] = request_of(frame.stream, fields, ended=ended)

    def _trailers(self, stream: SentStream, fields: Pairs, *, ended: bool) -> None:
        if stream.ended or stream.reset:
            self.reading.is_calm = False  # an error, of the stream or of the connection
            return
        good = ended and all(_is_field(name, value) and name not in _NOT_IN_TRAILERS for name, value in fields)
        if not good or stream.is_tunnel:
            stream.reset = True
            self.reading.is_calm = False
            return
        if stream.request is not None:
            stream.request.payload.trailers = fields
        self._end(stream)

    def _data(self, frame: Frame) -> None:
        content, stream = self._content(frame), self.reading.streams.get(frame.stream)
        if stream is None:
            raise ConnectionFault("DATA on an idle stream")
        if stream.ended or stream.reset:
            self.reading.is_calm = False
            return
        if stream.request is not None:
            stream.request.payload.content += content
        if frame.flags & f.END_STREAM:
            self._end(stream)

    def _end(self, stream: SentStream) -> None:
        stream.ended = True
        if stream.request is not None:
            payload = stream.request.payload
            if stream.length is None or stream.length == len(payload.content):
                payload.state = State.WHOLE
            else:
                payload.state = State.BROKEN
                self.reading.is_calm = False

    def _reset(self, frame: Frame) -> None:
        stream = self.reading.streams.get(frame.stream)
        if stream is None and frame.stream > self._highest:
            raise ConnectionFault("RST_STREAM on an idle stream")
        if stream is not None:
            stream.reset = True

    def _settings(self, frame: Frame) -> None:
        if len(frame.payload) % 6 or (frame.flags & f.ACK and frame.payload):
            raise ConnectionFault("SETTINGS of another size")
        for at in range(0, len(frame.payload), 6):
            key = int.from_bytes(frame.payload[at : at + 2], "big")
            value = int.from_bytes(frame.payload[at + 2 : at + 6], "big")
            if (
                (key == 4 and value > 0x7FFFFFFF)
                or (key == 5 and not f.MOST <= value < 1 << 24)
                or (key in (2, 8, 9) and value > 1)
            ):
                raise ConnectionFault("a value that SETTINGS must not have")
            if key == 4:
                self.reading.initial_window = max(self.reading.initial_window, value)
                self.reading.is_calm = False
            elif key == 5:
                self.reading.largest_frame = max(self.reading.largest_frame, value)

    def _window(self, frame: Frame) -> None:
        increment = int.from_bytes(frame.payload, "big") & 0x7FFFFFFF
        windows = self.reading.stream_windows
        if not frame.stream:
            if not increment:
                raise ConnectionFault("WINDOW_UPDATE of 0")
            self.reading.window += increment
        else:
            windows[frame.stream] = windows.get(frame.stream, 0) + increment


def _is_field(name: bytes, value: bytes) -> bool:
    """Sections 8.2.1 and 8.2.2."""
    return (
        _NAME.fullmatch(name) is not None
        and _VALUE.fullmatch(value) is not None
        and name not in OF_CONNECTION
        and (name != b"te" or value == b"trailers")
    )


def request_of(stream: int, fields: Pairs, *, ended: bool) -> SentStream:
    """The request in a header list. Section 8.3.1."""
    pseudo = [(name, value) for name, value in fields if name[:1] == b":"]
    plain = [(name, value) for name, value in fields if name[:1] != b":"]
    found = dict(pseudo)
    nothing = SentStream(stream, None, ended=ended)
    method, path = found.get(b":method", b""), found.get(b":path", b"")
    hosts = [value for name, value in plain if name == b"host"]
    authority = found.get(b":authority", hosts[0] if hosts else b"")
    lengths = [value for name, value in plain if name == b"content-length"]
    is_tunnel = method == b"CONNECT"
    wrong = (
        list(fields[: len(pseudo)]) != pseudo
        or len(found) != len(pseudo)
        or any(name not in _PSEUDO for name in found)
        or not all(_is_field(name, value) for name, value in plain)
        or not all(_VALUE.fullmatch(value) for value in found.values())
        or _TOKEN.fullmatch(method) is None
        or found.get(b":scheme", b"").lower() != b"http"
        or _TARGET.fullmatch(path) is None
        or (path == b"*" and method != b"OPTIONS")
        or (is_tunnel and found.get(b":protocol", b"").lower() != b"websocket")
        or (b":protocol" in found and not is_tunnel)
        or (is_tunnel and (ended or lengths))
        or not valid_host(authority)
        or any(host.lower() != authority.lower() for host in hosts)
        or len(hosts) > 1
        or len(lengths) > 1
        or not all(length.isdigit() and len(length) <= 16 for length in lengths)
    )
    length = int(lengths[0]) if lengths and not wrong else None
    if wrong or (ended and length):
        return nothing
    state = State.WHOLE if ended or is_tunnel else State.PARTIAL
    request = RequestMessage(
        b"GET" if is_tunnel else method, path, 1, authority, _joined(plain), Payload(state), 0, 0
    )
    return SentStream(stream, request, is_tunnel, length, ended)


def _joined(plain: Pairs) -> Pairs:
    """With one Cookie (section 8.2.3)."""
    cookies = [value for name, value in plain if name == b"cookie"]
    rest = [(name, value) for name, value in plain if name != b"cookie"]
    return [*rest, (b"cookie", b"; ".join(cookies))] if cookies else rest


@dataclass(slots=True)
class GotStream:
    """What the edge sent on one stream."""

    status: int = 0
    fields: Pairs = field(default_factory=list)
    interims: list[int] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)
    trailers: Pairs = field(default_factory=list)
    ended: bool = False
    reset: int | None = None

    def value(self, name: bytes) -> bytes:
        return next((value for n, value in self.fields if n == name), b"")


@dataclass(slots=True)
class GotReading:
    """All that the edge sent on one connection."""

    streams: dict[int, GotStream] = field(default_factory=dict)
    goaway: int | None = None
    faults: list[str] = field(default_factory=list)

    def is_over(self, stream: int) -> bool:
        got = self.streams.get(stream)
        return got is not None and (got.ended or got.reset is not None)


def read_edge(data: bytes, largest: int = f.MOST) -> GotReading:
    """The frames of the edge, held against what a server may send."""
    reading, decoder = GotReading(), hpack.Decoder(max_header_list_size=MOST_BLOCK)
    found, _ = f.frames_of(data)
    block: list[bytes] = []
    if found and (found[0].kind not in (f.SETTINGS, f.GOAWAY) or found[0].flags & f.ACK):
        reading.faults.append(f"its first frame is {found[0]}")
    for frame in found:
        reading.faults += _misplaced(reading, frame, largest)
        got = reading.streams.setdefault(frame.stream, GotStream()) if frame.stream else GotStream()
        if frame.kind in (f.HEADERS, f.CONTINUATION):
            block.append(frame.payload)
            if frame.flags & f.END_HEADERS:
                _take_head(reading, got, decoder, b"".join(block))
                block.clear()
        elif frame.kind == f.DATA:
            got.body += frame.payload
        elif frame.kind == f.RST_STREAM:
            got.reset = int.from_bytes(frame.payload, "big")
        elif frame.kind == f.GOAWAY:
            reading.goaway = int.from_bytes(frame.payload[4:8], "big")
        if frame.kind in (f.DATA, f.HEADERS) and frame.flags & f.END_STREAM:
            got.ended = True
    return reading


def _misplaced(reading: GotReading, frame: Frame, largest: int) -> Iterator[str]:
    got = reading.streams.get(frame.stream)
    if len(frame.payload) > largest:
        yield f"a frame of {len(frame.payload)} bytes"
    if frame.kind in (f.PUSH_PROMISE, f.PRIORITY) or (frame.kind in (f.DATA, f.HEADERS) and frame.flags & 0x28):
        yield f"a frame that the edge never sends: {frame}"
    if frame.kind in (f.DATA, f.HEADERS) and got is not None and (got.ended or got.reset is not None):
        yield f"{frame.kind} behind the end of stream {frame.stream}"
    if frame.kind == f.DATA and (got is None or not got.status):
        yield f"DATA before the head of stream {frame.stream}"


def _take_head(reading: GotReading, got: GotStream, decoder: hpack.Decoder, block: bytes) -> None:
    try:
        fields = [(bytes(name), bytes(value)) for name, value in decoder.decode(block, raw=True)]
    except hpack.HPACKError as error:
        reading.faults.append(f"HPACK: {error}")
        return
    plain = fields[1:] if fields and fields[0][0] == b":status" else fields
    if not all(_is_field(name, value) for name, value in plain):
        reading.faults.append(f"fields that HTTP/2 does not have: {plain}")
    if plain is fields:
        if not got.status:
            reading.faults.append(f"a head without :status: {fields}")
        got.trailers = fields
    elif fields[0][1][:1] == b"1":
        got.interims.append(int(fields[0][1]))
    elif got.status:
        reading.faults.append(f"a second head: {fields}")
    else:
        got.status, got.fields = int(fields[0][1]), plain
