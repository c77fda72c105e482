"""Checks the frames of an HTTP/2 connection before they are parsed: frames on closed streams, and floods (RFC 9113,
sections 5.1, 6 and 10.5).

    bytes ─► FrameGuard ─► session (parses, answers)
                 └─► Violation ─► GOAWAY

A session forgets a stream once it is closed, and ignores what comes for it. But a client that has ended a stream,
or has reset it, must send nothing more on it; only after a reset by the edge, its frames may have crossed it.

Frames that carry nothing of a request take tokens from a bucket of their connection. Pure.
"""

from collections.abc import Container
from enum import Enum, IntEnum
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from mypy_extensions import i64  # a machine integer, when compiled

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"What a client sends first (RFC 9113, section 3.4)."
FRAME_HEAD: Final = 9
"Bytes before the payload of a frame."
MOST_SIZE: Final = 1 << 14
"Bytes of the payload of a frame: SETTINGS_MAX_FRAME_SIZE, which is left as it is."
BURST: Final = 1000.0
PER_SECOND: Final = 100.0
"The bucket of frames without content: its size, and its tokens per second."
MOST_CONTINUATIONS: Final = 8
"CONTINUATION frames of one header block: with 16 KiB each, twice the longest head that is allowed by default."
MOST_SETTINGS: Final = 32
"Settings of one SETTINGS frame, of 6 bytes each: more end the session, but as a flood of no kind (nghttp2)."
MOST_RESETS: Final = 1024
"Streams reset by the edge that are remembered; frames on older ones are ignored."
MOST_GAPS: Final = 64
"Ranges of unused stream ids that are remembered, to tell which rule a client breaks."
CREDIT_SIZE: Final = 1024
"Bytes of a body that explain one WINDOW_UPDATE for the stream and one for the connection."
MOST_CREDIT: Final = 20_000
"WINDOW_UPDATE frames that may be explained by what was sent before."


class ErrorCode(IntEnum):
    """Error codes of HTTP/2 (RFC 9113, section 7)."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


class GoAwayReason(Enum):
    """Why the edge ends an HTTP/2 connection: a label of the metrics."""

    DRAIN = "drain"
    IDLE = "idle"
    REQUESTS = "requests"
    "The connection has had limits.requests_per_connection."
    PREFACE = "preface"
    HEAD_TIMEOUT = "head_timeout"
    WRITE_STALL = "write_stall"
    BUFFER_LIMIT = "buffer_limit"
    STREAM_CLOSED = "stream_closed"
    PROTOCOL = "protocol"
    FRAME_SIZE = "frame_size"
    FLOW_CONTROL = "flow_control"
    COMPRESSION = "compression"
    HEADER_LIST = "header_list"
    CONTINUATION_FLOOD = "continuation_flood"
    EMPTY_DATA_FLOOD = "empty_data_flood"
    PRIORITY_FLOOD = "priority_flood"
    RESET_FLOOD = "reset_flood"
    PROVOKED_RESETS = "provoked_resets"
    SETTINGS_FLOOD = "settings_flood"
    PING_FLOOD = "ping_flood"
    WINDOW_UPDATE_FLOOD = "window_update_flood"
    CLOSED_STREAM_FLOOD = "closed_stream_flood"
    OTHER_FLOOD = "other_flood"
    INTERNAL = "internal"


ORDERLY: Final = frozenset({GoAwayReason.DRAIN, GoAwayReason.IDLE, GoAwayReason.REQUESTS})
"Reasons for which the client is not to blame."
REASON_OF_CODE: Final = {
    ErrorCode.FLOW_CONTROL_ERROR: GoAwayReason.FLOW_CONTROL,
    ErrorCode.STREAM_CLOSED: GoAwayReason.STREAM_CLOSED,
    ErrorCode.FRAME_SIZE_ERROR: GoAwayReason.FRAME_SIZE,
    ErrorCode.COMPRESSION_ERROR: GoAwayReason.COMPRESSION,
    ErrorCode.INTERNAL_ERROR: GoAwayReason.INTERNAL,
    ErrorCode.ENHANCE_YOUR_CALM: GoAwayReason.OTHER_FLOOD,
}
"For errors that the session finds; others are PROTOCOL."


class Violation(NamedTuple):
    """What ends a connection."""

    code: ErrorCode
    reason: GoAwayReason
    why: str


_HEADERS: Final = 1
_PRIORITY: Final = 2
_RST_STREAM: Final = 3
_SETTINGS: Final = 4
_PING: Final = 6
_WINDOW_UPDATE: Final = 8
_CONTINUATION: Final = 9
_PRIORITY_UPDATE: Final = 16
_OTHER: Final = 256
_ON_CLOSED: Final = 257
_EMPTY_DATA: Final = 258
_PROVOKED: Final = 259
_END_STREAM: Final = 0x1
_END_HEADERS: Final = 0x4
_PADDED: Final = 0x8
_FLOODS: Final = {
    _SETTINGS: GoAwayReason.SETTINGS_FLOOD,
    _PRIORITY: GoAwayReason.PRIORITY_FLOOD,
    _RST_STREAM: GoAwayReason.RESET_FLOOD,
    _PING: GoAwayReason.PING_FLOOD,
    _WINDOW_UPDATE: GoAwayReason.WINDOW_UPDATE_FLOOD,
    _CONTINUATION: GoAwayReason.CONTINUATION_FLOOD,
    _PRIORITY_UPDATE: GoAwayReason.PRIORITY_FLOOD,
    _OTHER: GoAwayReason.OTHER_FLOOD,
    _ON_CLOSED: GoAwayReason.CLOSED_STREAM_FLOOD,
    _EMPTY_DATA: GoAwayReason.EMPTY_DATA_FLOOD,
    _PROVOKED: GoAwayReason.PROVOKED_RESETS,
}
"By the type of a frame, or by what is no type."
_ONE: Final = {what: 1 << 32 * place for place, what in enumerate(_FLOODS)}
"One token in `FrameGuard._spent`, which holds a count of 32 bits for each of them, that of SETTINGS lowest."


class FrameGuard:
    """Reads the heads of the frames that a client sends on one connection."""

    __slots__ = (
        "_blocks",
        "_charged",
        "_credit",
        "_ended",
        "_ending",
        "_forgotten",
        "_fresh",
        "_gaps",
        "_held",
        "_is_unfinished",
        "_opening",
        "_preface",
        "_reset",
        "_skip",
        "_spent",
        "_tokens",
        "_updated_at",
        "highest",
        "opened",
    )

    def __init__(self) -> None:
        self._preface = PREFACE
        "What is still to come of the preface."
        self._held = b""
        "Part of the head of a frame."
        self._skip = 0
        "Bytes that are left of the payload of a frame."
        self._blocks = 0
        "CONTINUATION frames of the header block that is being read, plus one; 0 = none is."
        self._tokens = BURST
        self._updated_at = 0.0
        self._credit = 100
        "WINDOW_UPDATE frames that take no token."
        self._reset: dict[int, None] | None = None
        "Streams that the edge has reset, the oldest first; None = there are none, which takes no memory."
        self._forgotten = 0
        "The highest stream that is no longer among them."
        self._gaps: tuple[tuple[int, int], ...] = ()
        "Ranges of stream ids that the client has left out."
        self._opening = 0
        "The stream whose header block ends with the frame that is being read; 0 = none."
        self._ending = 0
        "The stream of the RST_STREAM frame that is being read, which the session still takes for open; 0 = none."
        self.highest = 0
        "The highest stream that the client has opened."
        self._is_unfinished = False
        "Whether the header block of that stream is still to be completed."
        self._fresh: dict[int, None] | None = None
        "Streams of this read that the session may not know yet; None = there are none."
        self._ended: dict[int, None] | None = None
        "Streams that the client has reset, and of which the session learns with this read; None = there are none."
        self._charged = 0
        "Tokens that this read takes."
        self._spent = 0
        "Tokens taken since the bucket was full, in units of `_ONE`. (A dict would take 220 bytes.)"
        self.opened: list[int] | None = None
        "Streams whose header block came whole in the last read, until it is dealt with; None = there are none."

    @property
    def is_begun(self) -> bool:
        """Whether the preface is complete."""
        return not self._preface

    def explain_updates(self, size: int) -> None:
        """So many bytes of a body were sent: the client will return the credit for them."""
        if self._credit < MOST_CREDIT:
            self._credit += 2 + size // CREDIT_SIZE * 2

    def record_reset(self, stream: int) -> None:
        """The edge has reset this stream; frames that the client sent before it knows are ignored."""
        reset = self._reset = self._reset or {}
        reset[stream] = None
        if len(reset) > MOST_RESETS:
            oldest = next(iter(reset))
            self._forgotten = max(self._forgotten, oldest)
            del reset[oldest]

    def charge_reset(self, now: float) -> Violation | None:
        """The client made the edge reset a stream. Returns what ends the connection when that is too often."""
        self._spent += _ONE[_PROVOKED]
        return self._charge(1, now)

    def _charge(self, count: int, now: float) -> Violation | None:
        """Take tokens. What has taken most of them is the reason for the end."""
        self._tokens = min(BURST, self._tokens + max(0.0, now - self._updated_at) * PER_SECOND)
        self._updated_at = now
        self._tokens -= count
        if self._tokens >= 0.0:
            return None
        most = max(_FLOODS, key=lambda what: self._spent // _ONE[what] & 0xFFFF_FFFF)
        return Violation(ErrorCode.ENHANCE_YOUR_CALM, _FLOODS[most], "too many frames without content")

    def scan(self, data: bytes, streams: Container[int], now: float) -> Violation | None:
        """Read the heads of the frames in `data`. `streams`: those that are not closed, as of the last read."""
        if self._preface:
            part = data[: len(self._preface)]
            if not self._preface.startswith(part):
                return Violation(ErrorCode.PROTOCOL_ERROR, GoAwayReason.PREFACE, "no HTTP/2 preface")
            self._preface = self._preface[len(part) :]
            data = data[len(part) :]
        if self._held:
            data, self._held = self._held + data, b""
        if self._spent and self._tokens + (now - self._updated_at) * PER_SECOND >= BURST:
            self._spent = 0
        self.opened = None
        self._charged = 0
        if self._is_unfinished:
            self._fresh = {self.highest: None}
        if self._opening and self._skip <= len(data):
            self.opened = [self._opening]
            self._opening = 0
        if self._ending:
            self._ended = {self._ending: None}
            if self._skip <= len(data):
                self._ending = 0
        violation = self._read_frames(data, streams)
        fresh, opened, ended = self._fresh, self.opened, self._ended
        self._is_unfinished = bool(fresh and self.highest in fresh and not (opened and self.highest in opened))
        if ended is not None:
            self.opened = [stream for stream in opened or () if stream not in ended]
        self._fresh = self._ended = None
        if violation is None and self._charged:
            return self._charge(self._charged, now)
        return violation

    def _read_frames(self, data: bytes, streams: Container[int]) -> Violation | None:
        at: i64 = self._skip
        end: i64 = len(data)
        while at + FRAME_HEAD <= end:
            kind: i64 = data[at + 3]
            size: i64 = data[at] << 16 | data[at + 1] << 8 | data[at + 2]
            after: i64 = at + FRAME_HEAD + size
            violation: Violation | None = None
            if size > MOST_SIZE:
                return Violation(ErrorCode.FRAME_SIZE_ERROR, GoAwayReason.FRAME_SIZE, "a frame that is too large")
            if kind <= _HEADERS:
                if data[at + 4] & _PADDED:
                    if size and at + FRAME_HEAD == end:
                        break  # the length of the padding is still to come
                    if not size or data[at + FRAME_HEAD] >= size:
                        # nghttp2 goes on with the next frame until its GOAWAY is written (RFC 9113, section 6.1).
                        return Violation(
                            ErrorCode.PROTOCOL_ERROR, GoAwayReason.PROTOCOL, "padding beyond its frame"
                        )
                violation = self._read_message(data, at, streams, is_whole=after <= end)
            elif kind == _WINDOW_UPDATE and self._credit > 0:
                self._credit -= 1
            else:
                violation = self._read_other(data, at, is_whole=after <= end)
            if violation is not None:
                return violation
            at = after
        if at < end:
            self._held, self._skip = data[at:], 0
        else:
            self._skip = at - end
        return None

    def _read_message(self, data: bytes, at: "i64", streams: Container[int], *, is_whole: bool) -> Violation | None:
        """A HEADERS or DATA frame."""
        kind, flags, stream = data[at + 3], data[at + 4], _stream_of(data, at)
        if stream > self.highest:
            if kind == _HEADERS:
                self._open(stream)
        elif (self._ended and stream in self._ended) or not (
            stream in streams or (self._fresh and stream in self._fresh)
        ):
            violation = self._judge_closed(kind, stream)
            if violation is not None:
                return violation
            self._note(_ON_CLOSED)
        if kind == _HEADERS:
            self._blocks = 0 if flags & _END_HEADERS else 1
            if flags & _END_HEADERS and self._fresh and stream in self._fresh:
                self._note_opened(stream, is_whole=is_whole)
        elif not flags & _END_STREAM and _is_empty(data, at, flags):
            self._note(_EMPTY_DATA)
        return None

    def _read_other(self, data: bytes, at: "i64", *, is_whole: bool) -> Violation | None:
        """A frame that carries nothing of a request, or the rest of a header block."""
        kind = data[at + 3]
        self._note(kind if kind in _FLOODS else _OTHER)
        if kind == _CONTINUATION:
            return self._continue(data, at, is_whole=is_whole)
        stream = _stream_of(data, at)
        if kind == _RST_STREAM:
            self._ended = self._ended or {}
            self._ended[stream] = None
            if not is_whole:
                self._ending = stream
        elif kind == _SETTINGS and _size_of(data, at) > MOST_SETTINGS * 6:
            return Violation(
                ErrorCode.ENHANCE_YOUR_CALM, GoAwayReason.SETTINGS_FLOOD, "too many settings in one frame"
            )
        elif kind == _PRIORITY and not stream:
            return Violation(ErrorCode.PROTOCOL_ERROR, GoAwayReason.PROTOCOL, "PRIORITY on stream 0")
        elif kind == _PRIORITY_UPDATE and stream:
            # nghttp2 goes on with what is behind it (RFC 9218, section 7.1).
            return Violation(ErrorCode.PROTOCOL_ERROR, GoAwayReason.PROTOCOL, "PRIORITY_UPDATE on a stream")
        return None

    def _note(self, what: int) -> None:
        """This frame takes a token. `what`: a key of `_FLOODS`."""
        self._charged += 1
        self._spent += _ONE[what]

    def _open(self, stream: int) -> None:
        """The client opens a stream. Ids between the last one and this are closed (RFC 9113, section 5.1.1)."""
        if stream > self.highest + 2 and len(self._gaps) < MOST_GAPS:
            self._gaps = (*self._gaps, (self.highest, stream))
        self.highest = stream
        fresh = self._fresh = self._fresh or {}
        fresh[stream] = None

    def _judge_closed(self, kind: int, stream: int) -> Violation | None:
        """A frame for a stream that is closed. Returns None if it may have crossed a reset of the edge."""
        if (self._reset and stream in self._reset) or stream <= self._forgotten or not stream & 1:
            return None  # streams of even number are left to the session: a client cannot open them
        if kind == _HEADERS and any(low < stream < high for low, high in self._gaps):
            return Violation(
                ErrorCode.PROTOCOL_ERROR, GoAwayReason.PROTOCOL, "a stream id lower than that of an earlier stream"
            )
        return Violation(
            ErrorCode.STREAM_CLOSED, GoAwayReason.STREAM_CLOSED, "a frame on a stream that the client had ended"
        )

    def _note_opened(self, stream: int, *, is_whole: bool) -> None:
        if is_whole:
            opened = self.opened = self.opened or []
            opened.append(stream)
        else:
            self._opening = stream

    def _continue(self, data: bytes, at: "i64", *, is_whole: bool) -> Violation | None:
        """A CONTINUATION frame. (The session checks that it belongs to a header block.)"""
        if not self._blocks:
            return None
        self._blocks += 1
        if self._blocks > MOST_CONTINUATIONS + 1:
            return Violation(
                ErrorCode.ENHANCE_YOUR_CALM, GoAwayReason.CONTINUATION_FLOOD, "too many CONTINUATION frames"
            )
        if data[at + 4] & _END_HEADERS:
            self._blocks = 0
            self._note_opened(_stream_of(data, at), is_whole=is_whole)
        return None


def _size_of(data: bytes, at: "i64") -> "i64":
    """The size of the payload in the head of the frame at `at`."""
    return data[at] << 16 | data[at + 1] << 8 | data[at + 2]


def _stream_of(data: bytes, at: "i64") -> int:
    """The stream in the head of the frame at `at`, without its reserved bit."""
    return (data[at + 5] & 0x7F) << 24 | data[at + 6] << 16 | data[at + 7] << 8 | data[at + 8]


def _is_empty(data: bytes, at: "i64", flags: int) -> bool:
    """Whether a DATA frame has no bytes but padding. (Its padding is unknown when it is in the next read.)"""
    size = _size_of(data, at)
    if not size:
        return True
    return bool(flags & _PADDED) and at + FRAME_HEAD < len(data) and data[at + FRAME_HEAD] + 1 >= size
