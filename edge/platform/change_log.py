"""The log behind the core API's change stream: a bounded ring of events, and readers with positions in it.

A reader has no queue of its own. It holds the number of the last event it received; when it lags more than
`max_lag` events behind, it is disconnected and has to connect again. So the ring bounds the memory, even with many
slow readers. The id of an event is `EPOCH-NUMBER`. The epoch differs for every run of the platform; a reader cannot
resume at an id of another epoch, or at one that is no longer in the ring.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import msgspec

RING = 10_000
"Number of events kept for readers that resume."

Event = dict[str, str | bool]
EVERYTHING: Event = {"all": True}


class ReaderLost(Exception):
    """The reader was disconnected: it is too slow, or the log is being closed."""


@dataclass(slots=True, eq=False)
class Reader:
    """The position of one subscriber in the log."""

    seen: int
    "Number of the last event it received."
    resumed: bool
    "False: it missed events that are no longer in the ring."
    on_lost: Callable[[], None]
    "Called once when it is disconnected; it may be blocked in a write."
    lost: bool = False
    news: asyncio.Event = field(default_factory=asyncio.Event)


class ChangeLog:
    """Publishes events to readers, in order."""

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
        """Append an event and wake all readers. Disconnects those that lag more than `max_lag` events behind."""
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
        """Drop the events published inside, as if the network had lost them. Do not await inside."""
        self._muted = True
        try:
            yield
        finally:
            self._muted = False

    def frame(self, event: Event, number: int) -> bytes:
        """Encode an event as a server-sent event (WHATWG HTML, section 9.2)."""
        head = f"id: {self.epoch}-{number}\nevent: invalidate\ndata: ".encode()
        return head + msgspec.json.encode(event) + b"\n\n"

    @contextlib.contextmanager
    def reader(self, last_event_id: str | None, on_lost: Callable[[], None]) -> Iterator[Reader]:
        """A reader that resumes after `last_event_id`; None = it begins with the next event."""
        position = self.last if last_event_id is None else self._position(last_event_id)
        reader = Reader(self.last if position is None else position, position is not None, on_lost)
        if self.last > reader.seen:
            reader.news.set()
        self._readers.add(reader)
        try:
            yield reader
        finally:
            self._readers.discard(reader)

    def _position(self, event_id: str) -> int | None:
        """The number in an event's id, if a reader can resume after it."""
        epoch, _, number = event_id.rpartition("-")
        if epoch != self.epoch or not number.isdigit():
            return None
        position = int(number)
        return position if self.last - len(self._ring) <= position <= self.last else None

    async def next(self, reader: Reader, heartbeat: float) -> bytes:
        """Wait for the next events; a comment if there were none for `heartbeat` seconds. Raises ReaderLost."""
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
        """Disconnect all readers; they may connect again."""
        for reader in tuple(self._readers):
            self._lose(reader)
            reader.news.set()

    def _lose(self, reader: Reader) -> None:
        self._readers.discard(reader)
        reader.lost = True
        reader.on_lost()
