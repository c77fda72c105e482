"""A timeout that polls the sockets once more before it expires, so that a pause of this process cannot cause it.

A loop runs its timers before it polls its sockets. After a turn that was longer than the timeout, because the
machine or the worker was busy, `asyncio.timeout` would cancel an operation that the kernel has completed: a backend
whose connection is established would count as unreachable.
"""

import asyncio
from types import TracebackType

TURNS = 4
"Turns of the loop after the deadline: it polls the sockets, and a new connection gets transport and protocol."


class FairTimeout:
    """As `asyncio.timeout(seconds)`, but the sockets are polled before it raises TimeoutError."""

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
