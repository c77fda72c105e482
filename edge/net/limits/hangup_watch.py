"""Detects clients that close their connection while reading from it is paused.

    paused ─► watch ─► (a while) ─► poll: POLLRDHUP, POLLHUP ─► hung_up
                 └──── resumed, or lost ─► unwatch

Reading is paused while an upload is held back or a pipelined request waits. The loop reports the end of a
connection only when it reads, so without this watch a client that gave up would occupy its backend until a
deadline. Most pauses are short; only those that last until the next pass of the deadline sweep cost more than two
operations on a set.
"""

import asyncio
import logging
import select
from typing import Final, Protocol

AT_ONCE: Final = 8
"Connections whose end is reported in one turn of the loop."

log = logging.getLogger("styx.hangups")


class PausedConnection(Protocol):
    """A connection from which reading is paused."""

    def descriptor(self) -> int:
        """The descriptor of its socket."""

    def hung_up(self, *, reset: bool) -> None:
        """Act on a client that sends no more (reported once) or, with `reset`, takes no more either."""


class HangupWatch:
    """Polls the paused client connections of one worker for their end. A member of its deadline sweep."""

    __slots__ = ("_by_descriptor", "_descriptors", "_every", "_loop", "_new", "_poll", "deadline")

    def __init__(self, loop: asyncio.AbstractEventLoop, *, every: float = 0.5) -> None:
        """`every`: seconds between two polls."""
        self._loop = loop
        self._every = every
        self._new: set[PausedConnection] = set()
        "Connections paused since the last poll."
        self._descriptors: dict[PausedConnection, int] = {}
        self._by_descriptor: dict[int, PausedConnection] = {}
        self._poll = select.poll()
        self.deadline = 0.0

    def __len__(self) -> int:
        return len(self._new) + len(self._descriptors)

    def watch(self, connection: PausedConnection) -> None:
        """Watch a connection from which reading is paused."""
        self._new.add(connection)

    def unwatch(self, connection: PausedConnection) -> None:
        """Stop watching a connection that is read from again or lost: its descriptor may be reused soon."""
        self._new.discard(connection)
        descriptor = self._descriptors.pop(connection, None)
        if descriptor is not None:
            del self._by_descriptor[descriptor]
            self._poll.unregister(descriptor)

    def deadline_passed(self, now: float) -> None:
        """Poll the watched connections. Called by the deadline sweep."""
        self.deadline = now + self._every
        while self._new:
            connection = self._new.pop()
            descriptor = self._descriptors[connection] = connection.descriptor()
            self._by_descriptor[descriptor] = connection
            self._poll.register(descriptor, select.POLLRDHUP)
        if self._descriptors:
            self._report([(self._by_descriptor[descriptor], events) for descriptor, events in self._poll.poll(0)])

    def _report(self, ended: list[tuple[PausedConnection, int]]) -> None:
        """Report some of these ends, and the others in later turns of the loop."""
        for connection, events in ended[:AT_ONCE]:
            descriptor = self._descriptors.get(connection)
            if descriptor is None:
                continue  # read from again, or lost meanwhile
            self._poll.modify(descriptor, 0)  # from now on only a reset is reported
            try:
                connection.hung_up(reset=bool(events & (select.POLLHUP | select.POLLERR)))
            except Exception:  # a failure must not stop the others
                log.exception(
                    "handling of a client hangup failed",
                    extra={"code": "connection_end_failed", "connection": repr(connection)},
                )
        if len(ended) > AT_ONCE:
            self._loop.call_soon(self._report, ended[AT_ONCE:])
