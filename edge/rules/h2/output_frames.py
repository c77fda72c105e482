"""Frames of the edge's own: those that it writes without a session, and what is in the output of one.

Pure.
"""

from typing import Final

from edge.rules.h2.h2_frames import FRAME_HEAD, ErrorCode

_GOAWAY: Final = 7


def settings_frame() -> bytes:
    """A SETTINGS frame without settings (RFC 9113, section 6.5): the preface of a server that serves nothing."""
    return b"\0\0\0\x04\0\0\0\0\0"


def goaway_frame(last_stream: int, code: ErrorCode, text: bytes = b"") -> bytes:
    """A GOAWAY frame (RFC 9113, section 6.8), for a connection whose session cannot make one. `text`: for whoever
    looks for the cause at the client."""
    head = (8 + len(text)).to_bytes(3) + b"\x07\0\0\0\0\0"
    return b"".join((head, last_stream.to_bytes(4), code.to_bytes(4), text))


class OutputFrames:
    """The frames of an output that is taken in pieces, which may be cut anywhere: finds the GOAWAY among them."""

    __slots__ = ("_part", "_skip")

    def __init__(self) -> None:
        self._part = b""
        "What has come of a frame that cannot be judged yet."
        self._skip = 0
        "Bytes to come that belong to a frame without interest."

    @property
    def is_cut(self) -> bool:
        """Whether the last piece ended within a frame."""
        return bool(self._part or self._skip)

    def follow(self, output: bytes) -> int | None:
        """The error code of the GOAWAY in this piece; None = there is none."""
        data, at = self._part + output, self._skip
        found: int | None = None
        while at + FRAME_HEAD <= len(data):
            if data[at + 3] == _GOAWAY:
                if at + 17 > len(data):
                    break
                found = int.from_bytes(data[at + 13 : at + 17])
            at += FRAME_HEAD + int.from_bytes(data[at : at + 3])
        self._part, self._skip = data[at:], max(0, at - len(data))
        return found
