"""Bodies on their way: the client's to the backend (`Upload`), the backend's to the client (`Reply`).

Neither is ever held whole. A chunk that came is handed on as it is; when the receiver is slower than the
sender, reading from the sender stops (the exchange does that). The one exception is the beginning of a
request body, kept up to `retries.replay_buffer` bytes so that a refused request can be said again.
"""

import msgspec

from edge.net.backend_side import BackendConnection
from edge.rules.admission import Answer, Request
from edge.rules.framing import Framing
from edge.rules.hops import last_chunk

_NONE, _CHUNKED, _CLOSE = Framing.NONE, Framing.CHUNKED, Framing.CLOSE
MANY = 8
"Pieces that are cheaper to copy together than to write one by one."
LAST_CHUNK = last_chunk(b"")


def together(pieces: list[bytes]) -> list[bytes]:
    """The same bytes in a few pieces."""
    return [b"".join(pieces)] if len(pieces) > MANY else pieces


def chunk(pieces: list[bytes]) -> list[bytes]:
    """These pieces as one chunk (RFC 9112, section 7.1). An empty one would mean the end."""
    pieces = together(pieces)
    size = sum(map(len, pieces))
    return [b"%x\r\n" % size, *pieces, b"\r\n"] if size else []


class Upload:
    """The request body: what has come of it, and what of that could be said again."""

    __slots__ = (
        "_chunked",
        "_kept",
        "_room",
        "_window",
        "done",
        "large",
        "replayable",
        "sent",
        "size",
        "trailers",
        "unsent",
    )

    def __init__(self, framing: Framing, length: int, room: int) -> None:
        self._chunked = framing is _CHUNKED
        self.large = self._chunked or length > room
        "Whether it may not fit into the replay buffer."
        self._room = room
        self._kept: list[bytes] = []
        self.size = 0
        "Bytes taken from the client."
        self.done = framing is _NONE
        self.sent = self.done
        "Whether its end was written to the backend in hand."
        self.replayable = True
        "Whether everything sent so far can be sent again."
        self.trailers = b""
        "The lines behind it."
        self.unsent = 0
        "Bytes that waited for the backend when it was last looked at."
        self._window = 0
        "Its size when the time began within which more must come."

    @property
    def may_fit(self) -> bool:
        """Whether a body of unknown length may still turn out to fit into the replay buffer."""
        return self._chunked and self.size <= self._room

    def take(self, pieces: list[bytes], *, done: bool) -> None:
        """More came from the client. Kept until it is sent, and as long as there is room."""
        if self.replayable:
            self._kept += together(pieces)
        self.size += sum(map(len, pieces))
        self.done = done

    def begin_again(self) -> None:
        """Another backend is to get it, from its beginning."""
        self.sent = False

    def send_all(self, link: BackendConnection) -> None:
        """Send all of the body that has come: the beginning of an attempt."""
        if self.size or self._chunked:
            self.send(link, self._kept)

    def send(self, link: BackendConnection, pieces: list[bytes]) -> None:
        """Send what has just come, and its end if that came too."""
        parts = pieces
        if self._chunked:
            parts = chunk(pieces)
            if self.done:
                parts.append(last_chunk(self.trailers))
        link.write_all(parts)
        self.sent = self.done
        if self.size > self._room:
            self.replayable = False
            self._kept = []

    def begin_window(self) -> None:
        """From now on so much must come in so much time."""
        self._window = self.size

    @property
    def kept(self) -> int:
        """Bytes that are kept to be sent again."""
        return self.size if self.replayable else 0

    @property
    def came(self) -> int:
        """Bytes that came within this window."""
        return self.size - self._window


NO_UPLOAD = Upload(Framing.NONE, 0, 0)
"Shared by all requests without a body: there is nothing in it to change."


class Reply(msgspec.Struct, gc=False):
    """The answer as the client gets it."""

    status: int
    "0 = nothing was sent yet."
    framing: Framing = Framing.NONE
    keep_alive: bool = False
    size: int = 0
    "Body bytes."

    def encode(self, pieces: list[bytes], *, done: bool, trailers: bytes) -> list[bytes]:
        """What goes on the wire for these pieces of the body, and for its end."""
        for piece in pieces:
            self.size += len(piece)
        if self.framing is not _CHUNKED:
            return pieces
        return [*chunk(pieces), last_chunk(trailers) if trailers else LAST_CHUNK] if done else chunk(pieces)


NO_REPLY = Reply(0)
"Shared by all requests that are not answered yet."


def reply_to(request: Request, answer: Answer, *, keep_alive: bool) -> Reply:
    """Decide how this answer is framed for this client, and whether another request may follow.

    A body of unknown length is chunked for an HTTP/1.1 client, so that it can tell a complete answer
    from a cut one; an HTTP/1.0 client gets it until the connection ends.
    """
    framing = answer.framing
    if framing is _CHUNKED or framing is _CLOSE:
        framing = _CHUNKED if request.minor else _CLOSE
        keep_alive = keep_alive and framing is not _CLOSE
    return Reply(answer.status, framing, keep_alive)
