"""The body of a request on its way from the client to a backend.

It is never held whole: what came is handed on as it is. The one exception is its beginning, of which up to
`retries.replay_buffer` bytes are kept, so that a request can be sent again.
"""

from edge.net.backend_side import BackendConnection
from edge.rules.framing import Framing
from edge.rules.heads import chunk, joined
from edge.rules.hops import last_chunk

_NONE, _CHUNKED = Framing.NONE, Framing.CHUNKED


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
            self._kept += joined(pieces)
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
