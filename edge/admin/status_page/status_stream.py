"""The stream of snapshots (server-sent events): one task makes each snapshot, however many subscribers there are.

    sampler ─► numbers of the last minutes      each second, with or without a subscriber
    maker   ─► snapshot ─► encoded once ─► every subscriber      only while there is one

A subscriber that reads slowly gets the latest snapshot when it is ready for it, and misses those between: nothing
is queued. One that does not read for `stalled` seconds is closed.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final, Protocol

import msgspec
import structlog
from aiohttp import hdrs, web

PERIOD: Final = 1.0
"Seconds between two snapshots."
MOST_SUBSCRIBERS: Final = 16
STALLED: Final = 20.0
"Seconds for which a subscriber may fail to take one snapshot."

log = structlog.get_logger("styx.admin")


class SnapshotSource(Protocol):
    """The source of the data in snapshots."""

    async def snapshot(self) -> Any:
        """The state of the edge now, as a record."""

    def history(self) -> Any:
        """The numbers of the last minutes, for the charts of a new subscriber."""


class StatusStream:
    """All subscribers of the status page."""

    def __init__(
        self,
        source: SnapshotSource,
        *,
        period: float = PERIOD,
        most: int = MOST_SUBSCRIBERS,
        stalled: float = STALLED,
    ) -> None:
        self._source = source
        self._period, self._most, self._stalled = period, most, stalled
        self.subscribers = 0
        self._event = b""
        "The latest snapshot, as an event."
        self._next = asyncio.Event()
        "Set when there is another snapshot, or none will come; then replaced by a new one."
        self._maker: asyncio.Task[None] | None = None
        self._ending = False

    async def respond(self, request: web.Request, alive: Callable[[], None]) -> web.StreamResponse:
        """Send snapshots until the client leaves or the server stops. `alive` is called before each one.

        Raises HTTPServiceUnavailable when there are as many subscribers as there may be."""
        if self.subscribers >= self._most:
            raise web.HTTPServiceUnavailable(
                reason=f"There are {self._most} subscribers already.", headers={hdrs.RETRY_AFTER: "10"}
            )
        response = web.StreamResponse(
            headers={hdrs.CONTENT_TYPE: "text/event-stream; charset=utf-8", hdrs.CACHE_CONTROL: "no-store"}
        )
        self.subscribers += 1
        try:
            if self._maker is None or self._maker.done():
                self._maker = asyncio.get_running_loop().create_task(self._make(), name="status snapshots")
            await response.prepare(request)
            await self._send(response, event("history", self._source.history()), alive)
            while not self._ending:
                coming = self._next
                if self._event:
                    await self._send(response, self._event, alive)
                await coming.wait()
        except (TimeoutError, ConnectionError):
            pass
        finally:
            self.subscribers -= 1
            if not self.subscribers:
                self._stop_making()
        return response

    async def stop(self) -> None:
        """End all responses."""
        self._ending = True
        self._stop_making()
        self._next.set()

    async def _send(self, response: web.StreamResponse, data: bytes, alive: Callable[[], None]) -> None:
        alive()
        async with asyncio.timeout(self._stalled):
            await response.write(data)

    def _stop_making(self) -> None:
        if self._maker is not None:
            self._maker.cancel()
        self._maker, self._event = None, b""

    async def _make(self) -> None:
        """Make a snapshot in each period, until it is cancelled."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            try:
                self._event = event("snapshot", await self._source.snapshot())
            except Exception:  # shown as a page that stands still; the next one may succeed
                log.exception("status snapshot failed", code="status_snapshot_failed")
            else:
                made, self._next = self._next, asyncio.Event()
                made.set()
            due = max(due + self._period, loop.time())
            await asyncio.sleep(due - loop.time())


def event(name: str, data: Any) -> bytes:
    """Encode a server-sent event; JSON has no line breaks."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), msgspec.json.encode(data))
