"""At most so many at once; of those that wait, the urgent ones first.

`asyncio.Semaphore` knows one line only. Here a hostname that clients are served from an old route for goes before
one that nobody has heard of: a flood of made-up names must not keep known routes from being renewed. Every fourth
turn goes to the others all the same, for a client waits behind each of them.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

OTHERS_EVERY = 4


class Turns:
    """Of one worker. Not for several threads."""

    __slots__ = ("_free", "_given", "_others", "_urgent")

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._given = 0
        "Turns given to those that waited."
        self._urgent: deque[asyncio.Future[None]] = deque()
        self._others: deque[asyncio.Future[None]] = deque()

    @asynccontextmanager
    async def turn(self, *, urgent: bool) -> AsyncIterator[None]:
        """Wait for a turn, and hold it. Who is cancelled while waiting leaves the line."""
        if self._free:
            self._free -= 1
        else:
            mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            (self._urgent if urgent else self._others).append(mine)
            try:
                await mine
            except asyncio.CancelledError:
                if mine.done() and not mine.cancelled():
                    self._pass_on()  # it was given just now
                raise
        try:
            yield
        finally:
            self._pass_on()

    def _pass_on(self) -> None:
        self._given += 1
        lines = (self._urgent, self._others)
        for line in reversed(lines) if self._given % OTHERS_EVERY == 0 else lines:
            while line:
                first = line.popleft()
                if not first.done():
                    first.set_result(None)
                    return
        self._free += 1
