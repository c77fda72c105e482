"""Clients that leave while nothing is read from them, because an upload is held back or a request waits its turn.

    paused ─► watch ─► (a while) ─► poll: POLLRDHUP, POLLHUP ─► hung_up
                 └──── resumed, or lost ─► unwatch

The end of a connection is read like any byte of it, so the loop tells of none while it does not read: a client that
gave up would hold its backend until a deadline. Most pauses last a moment; only those that are still there when the
sweep comes by cost more than two operations on a set.
"""

import asyncio
import logging
import select
from typing import Protocol

AT_ONCE = 8
"Connections that are told of in one turn of the loop."

log = logging.getLogger("styx.hangups")


class Unread(Protocol):
    """A connection that nothing is read from for now."""

    def descriptor(self) -> int:
        """Of its socket."""

    def hung_up(self, *, reset: bool) -> None:
        """The client sends no more (told once); `reset`: nor does it take anything."""


class Hangups:
    """Of one worker. A member of its sweep."""

    __slots__ = ("_by_descriptor", "_descriptors", "_every", "_loop", "_new", "_poll", "deadline")

    def __init__(self, loop: asyncio.AbstractEventLoop, *, every: float = 0.5) -> None:
        self._loop = loop
        self._every = every
        self._new: set[Unread] = set()
        "Paused since the last look."
        self._descriptors: dict[Unread, int] = {}
        self._by_descriptor: dict[int, Unread] = {}
        self._poll = select.poll()
        self.deadline = 0.0

    def __len__(self) -> int:
        return len(self._new) + len(self._descriptors)

    def watch(self, connection: Unread) -> None:
        """Nothing is read from it from now on."""
        self._new.add(connection)

    def unwatch(self, connection: Unread) -> None:
        """It is read again, or it is gone; its descriptor may be somebody else's soon."""
        self._new.discard(connection)
        descriptor = self._descriptors.pop(connection, None)
        if descriptor is not None:
            del self._by_descriptor[descriptor]
            self._poll.unregister(descriptor)

    def deadline_passed(self, now: float) -> None:
        """Look who has left. Called by the sweep."""
        self.deadline = now + self._every
        while self._new:
            connection = self._new.pop()
            descriptor = self._descriptors[connection] = connection.descriptor()
            self._by_descriptor[descriptor] = connection
            self._poll.register(descriptor, select.POLLRDHUP)
        if self._descriptors:
            self._tell([(self._by_descriptor[descriptor], events) for descriptor, events in self._poll.poll(0)])

    def _tell(self, left: list[tuple[Unread, int]]) -> None:
        for connection, events in left[:AT_ONCE]:
            descriptor = self._descriptors.get(connection)
            if descriptor is None:
                continue  # read again, or gone meanwhile
            self._poll.modify(descriptor, 0)  # from now on only a reset is of interest
            try:
                connection.hung_up(reset=bool(events & (select.POLLHUP | select.POLLERR)))
            except Exception:  # one that fails must not take the others along
                log.exception(
                    "end of a connection failed",
                    extra={"code": "connection_end_failed", "connection": repr(connection)},
                )
        if len(left) > AT_ONCE:
            self._loop.call_soon(self._tell, left[AT_ONCE:])
