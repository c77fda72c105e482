"""A queue of low-priority work, such as responses to requests for unknown hosts.

    a turn of the loop:   all sockets that are ready to be read or written ─► a batch of these ─► the next turn

To reject thousands of requests a second for unknown hosts costs time too. Done as they arrive, each request for a
known host would wait behind all of them that arrived in the same turn. Deferred, they give way: the more there is
to do, the later they get their response. No request is here twice, so there are at most as many entries as
connections.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Final

log = logging.getLogger("styx.later")

BATCH: Final = 4
"Entries done in one turn of the loop: a third of a millisecond."


class DeferredQueue:
    """The deferred work of one worker; first in, first out."""

    __slots__ = ("_loop", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[Callable[[], None]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, work: Callable[[], None]) -> None:
        """Do this in a later turn of the loop."""
        if not self._waiting:
            self._loop.call_soon(self._do_batch)
        self._waiting.append(work)

    def _do_batch(self) -> None:
        waiting = self._waiting
        batch = [waiting.popleft() for _ in range(min(BATCH, len(waiting)))]
        if waiting:
            self._loop.call_soon(self._do_batch)
        for work in batch:
            try:
                work()
            except Exception:  # a failure must not prevent the others
                log.exception("deferred work failed", extra={"code": "deferred_work_failed", "work": repr(work)})
