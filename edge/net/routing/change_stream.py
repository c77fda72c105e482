"""The core API's stream of changes, read by one process for the whole edge: `GET {core_api.url}/v1/changes`.

What comes is handed on at once. The stream is a help and no condition: without it routes are renewed by time and by
failing backends. But it must not lie by silence, so whenever changes may have been missed everything is stale:

    the first connection of this process        nobody knows what was missed before
    no sign of life for `SILENCE` seconds       a heartbeat comes every ten
    it cannot go on where it was                the core API says so itself: {"all": true}
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

import aiohttp

from edge.net.background import Background
from edge.net.routing.core_api_session import core_api_session
from edge.rules.background_tasks import BackgroundTask
from edge.rules.http.sse import EventStream, TooLong
from edge.rules.routing.change_records import Change
from edge.rules.routing.invalidation import EVERYTHING, StreamState, change_in
from edge.rules.settings import CoreApiSettings

SILENCE = 30.0
"Seconds without a byte after which the stream counts as broken; three heartbeats."
SHORTEST_PAUSE, LONGEST_PAUSE = 0.25, 10.0
"Seconds between two tries to connect; doubled each time, and spread by half."
NOT_OFFERED_PAUSE = 60.0
"The same when the core API has no such stream."

log = logging.getLogger("styx.changes")


class _NotOffered(Exception):
    """The core API has no stream of changes."""


class _Broken(Exception):
    """The stream is none, or cannot be read."""


class ChangeStream:
    """See the module. `tell` gets what became stale, in order."""

    def __init__(
        self,
        tell: Callable[[list[Change]], None],
        *,
        clock: Callable[[], float],
        rand: Callable[[], float],
        background: Background | None = None,
    ) -> None:
        self._tell = tell
        self._clock = clock
        self._rand = rand
        self.state = StreamState()
        self._events = EventStream()
        self._tries = 0
        self._gap_told = True
        "Whether what may have been missed since the last sign of life was told already."
        self._background = background or Background()
        self._task: asyncio.Task[None] | None = None

    def start(self, settings: CoreApiSettings) -> None:
        """Read it from there from now on; goes on where it was if that is the same core API."""
        if self._task is not None:
            self._task.cancel()
        self.state.connected = False
        is_there = settings.changes and not settings.is_pushed
        self._task = (
            self._background.run(BackgroundTask.CHANGE_STREAM, lambda: self._stay(settings)) if is_there else None
        )

    async def stop(self) -> None:
        """Read no more."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _stay(self, settings: CoreApiSettings) -> None:
        self._tries = 0
        self.state.connected = False
        why = ""
        while True:
            pause = 0.0
            try:
                await self._read(settings)
                now_why = "the core API ended it"
            except _NotOffered as error:
                now_why, pause = str(error), NOT_OFFERED_PAUSE
            except (aiohttp.ClientError, OSError, ValueError, TimeoutError, _Broken) as error:
                if isinstance(error, _Broken):
                    self._events = EventStream()  # to go on from there would end there again
                now_why = f"{type(error).__name__}: {error}".rstrip(": ")
            was_connected, self.state.connected = self.state.connected, False
            if was_connected or now_why != why:  # not the same again each time
                log.warning(
                    "no change stream from the core API",
                    extra={"code": "change_stream_lost", "reason": now_why},
                )
            why = now_why
            pause = pause or min(SHORTEST_PAUSE * 2.0 ** min(self._tries, 10), LONGEST_PAUSE)
            self._tries += 1
            await self._wait(pause * (0.75 + self._rand() / 2))

    async def _wait(self, seconds: float) -> None:
        """For the next try; when the silence has become too long by then, everything is stale."""
        left = self.state.heard_at + SILENCE - self._clock()
        if not self._gap_told and left < seconds:
            await asyncio.sleep(max(0.0, left))
            self._missed()
            seconds -= max(0.0, left)
        await asyncio.sleep(seconds)

    async def _read(self, settings: CoreApiSettings) -> None:
        """Until the stream ends. Raises whatever ends it otherwise."""
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        if self._events.last_id:
            headers["Last-Event-ID"] = self._events.last_id
        timeout = aiohttp.ClientTimeout(total=None, connect=settings.timeout, sock_read=SILENCE)
        async with (
            core_api_session(settings, timeout) as session,
            session.get(f"{settings.url}/v1/changes", headers=headers, allow_redirects=False) as response,
        ):
            if response.status in (404, 405, 501):
                raise _NotOffered(f"status {response.status}: it has none")
            if response.status != 200 or response.content_type != "text/event-stream":
                raise _Broken(f"status {response.status}, {response.content_type}")
            self._connected()
            async for piece in response.content.iter_any():
                self._heard(piece)

    def _connected(self) -> None:
        resumes, self._events = bool(self._events.last_id), EventStream(self._events.last_id)
        log.info("change stream connected", extra={"code": "change_stream_connected"})
        self.state.connected, self.state.heard_at = True, self._clock()
        if not resumes:
            self._missed()
        self._gap_told = False

    def _heard(self, piece: bytes) -> None:
        self.state.heard_at = self._clock()
        self._tries = 0
        try:
            events = self._events.feed(piece)
        except TooLong as error:
            raise _Broken(str(error)) from error
        changes = [change_in(event.data) for event in events if event.name == "invalidate"]
        if changes:
            self.state.events += len(changes)
            self.state.gaps += changes.count(EVERYTHING)
            try:
                self._tell(list(dict.fromkeys(changes)))
            except Exception:
                self._events = EventStream()  # not told: to go on behind them would lose them
                raise

    def _missed(self) -> None:
        self.state.gaps += 1
        self._tell([EVERYTHING])
        self._gap_told = True
