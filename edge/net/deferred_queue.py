"""What can wait until those that are served have had their turn.

    a turn of the loop:   all that is ready to be read or written ─► a few of these ─► the next turn

To turn away thousands a second who ask for hostnames that nobody has is work as well. Done as they come, each
request for a real site would wait behind all of them that came in the same turn. So they make way: the more there
is to do, the later they are told. No request is here twice, so there are at most as many as connections.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable

log = logging.getLogger("styx.later")

FEW = 4
"In one turn: a third of a millisecond."


class DeferredQueue:
    """Of one worker; first come, first served."""

    __slots__ = ("_loop", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[Callable[[], None]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, deed: Callable[[], None]) -> None:
        """Do this in a turn to come."""
        if not self._waiting:
            self._loop.call_soon(self._turn)
        self._waiting.append(deed)

    def _turn(self) -> None:
        waiting = self._waiting
        few = [waiting.popleft() for _ in range(min(FEW, len(waiting)))]
        if waiting:
            self._loop.call_soon(self._turn)
        for deed in few:
            try:
                deed()
            except Exception:  # one that fails must not take the others along
                log.exception("deferred work failed", extra={"code": "deferred_work_failed", "work": repr(deed)})
