"""A timeout that does not count the time in which this process stood still.

A loop runs its timers before it looks at its sockets. After a turn that was longer than the timeout, because the
machine was busy or the worker had much to do, `asyncio.timeout` would cancel what is done as far as the kernel is
concerned: a backend whose connection is there would be taken for one that cannot be reached.
"""

import asyncio
from types import TracebackType

TURNS = 4
"Of the loop, from the deadline on: it looks at the sockets, and a new connection gets its transport and protocol."


class FairTimeout:
    """As `asyncio.timeout(seconds)`, but the sockets are looked at before it ends with TimeoutError."""

    __slots__ = ("_handle", "_loop", "_seconds", "_timeout")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._timeout = asyncio.timeout(None)
        self._loop = asyncio.get_running_loop()
        self._handle: asyncio.Handle | None = None

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()
        self._handle = self._loop.call_later(self._seconds, self._expire, TURNS)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handle is not None:
            self._handle.cancel()
        await self._timeout.__aexit__(kind, error, trace)

    def _expire(self, turns: int) -> None:
        if turns:
            self._handle = self._loop.call_soon(self._expire, turns - 1)
        else:
            self._timeout.reschedule(self._loop.time())
