"""The changes that are told to edges: a bounded ring, and readers that each have a place in it.

A reader has no queue of its own. It holds the number of the last event it was given; when it lags more than
`max_lag` behind, it is lost and has to come again. So memory is bounded by the ring, however many readers are slow.
An event's id is `EPOCH-NUMBER`; the epoch differs for every run of the platform, and an id of another epoch, or one
that fell out of the ring, cannot be resumed.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import msgspec

RING = 10_000
"Events kept for those who come back."

Event = dict[str, str | bool]
EVERYTHING: Event = {"all": True}


class ReaderLost(Exception):
    """This reader is too slow, or the log is being closed."""


@dataclass(slots=True, eq=False)
class Reader:
    """One subscriber's place in the log."""

    seen: int
    "Number of the last event it was given."
    resumed: bool
    "False: it missed events that nobody can give it any more."
    on_lost: Callable[[], None]
    "Called once when it is lost; it may be in the middle of a write that never ends."
    lost: bool = False
    news: asyncio.Event = field(default_factory=asyncio.Event)


class ChangeLog:
    """Publish events, read them in order."""

    def __init__(self, epoch: str, *, ring: int = RING, max_lag: int = 1000) -> None:
        self.epoch = epoch
        self.last = 0
        "Number of the newest event."
        self.max_lag = max_lag
        self._ring: deque[bytes] = deque(maxlen=ring)
        self._readers: set[Reader] = set()
        self._muted = False

    @property
    def readers(self) -> int:
        return len(self._readers)

    def publish(self, event: Event) -> None:
        """Tell everybody. Whoever lags too far behind is lost."""
        if self._muted:
            return
        self.last += 1
        self._ring.append(self.frame(event, self.last))
        for reader in tuple(self._readers):
            if self.last - reader.seen > self.max_lag:
                self._lose(reader)
            reader.news.set()

    @contextlib.contextmanager
    def muted(self) -> Iterator[None]:
        """What happens in here is never told, as if the network had lost it. For plain calls, not for awaits."""
        self._muted = True
        try:
            yield
        finally:
            self._muted = False

    def frame(self, event: Event, number: int) -> bytes:
        """The event as it goes over the wire (WHATWG server-sent events)."""
        head = f"id: {self.epoch}-{number}\nevent: invalidate\ndata: ".encode()
        return head + msgspec.json.encode(event) + b"\n\n"

    @contextlib.contextmanager
    def reader(self, last_event_id: str | None, on_lost: Callable[[], None]) -> Iterator[Reader]:
        """A reader that goes on after `last_event_id`; None = from now on."""
        place = self.last if last_event_id is None else self._place(last_event_id)
        reader = Reader(self.last if place is None else place, place is not None, on_lost)
        if self.last > reader.seen:
            reader.news.set()
        self._readers.add(reader)
        try:
            yield reader
        finally:
            self._readers.discard(reader)

    def _place(self, event_id: str) -> int | None:
        epoch, _, number = event_id.rpartition("-")
        if epoch != self.epoch or not number.isdigit():
            return None
        place = int(number)
        return place if self.last - len(self._ring) <= place <= self.last else None

    async def next(self, reader: Reader, heartbeat: float) -> bytes:
        """The next frames; a comment when there were none for `heartbeat` seconds. Raises ReaderLost."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(reader.news.wait(), heartbeat)
        if reader.lost:
            raise ReaderLost
        reader.news.clear()
        missing = self.last - reader.seen
        if not missing:
            return b": heartbeat\n\n"
        frames = [self._ring[-n] for n in range(missing, 0, -1)]
        reader.seen = self.last
        return b"".join(frames)

    def lose_all(self) -> None:
        """End every reader; they may come again."""
        for reader in tuple(self._readers):
            self._lose(reader)
            reader.news.set()

    def _lose(self, reader: Reader) -> None:
        self._readers.discard(reader)
        reader.lost = True
        reader.on_lost()
