"""Reads the core API's stream of changes, in one process for the whole edge: `GET {core_api.url}/v1/changes`.

Changes are passed on as they are read. The edge also works without the stream: routes are then renewed by time and
after failures of backends. Whenever changes may have been missed, all routes become stale:

    the first connection of this process        changes before it are unknown
    no byte for `SILENCE` seconds               the core API sends a heartbeat every ten
    the stream cannot be resumed                the core API reports that itself: {"all": true}
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
"Seconds without a byte after which the stream counts as broken: three heartbeats."
SHORTEST_PAUSE, LONGEST_PAUSE = 0.25, 10.0
"""Seconds between two attempts to connect: doubled after each failure, with 25 % jitter to both sides. A
connection that is lost before it is `LONGEST_PAUSE` old is a failure as well: a proxy may end each stream at once,
and each costs log lines and perhaps makes all routes stale."""
NOT_OFFERED_PAUSE = 60.0
"Seconds until the next attempt to connect when the core API has no change stream."

log = logging.getLogger("styx.changes")


class _NotOffered(Exception):
    """The core API has no change stream (status 404, 405 or 501)."""


class _Broken(Exception):
    """The response is not an event stream, or the stream cannot be parsed."""


class ChangeStream:
    """The client of the change stream. `publish` receives the changes, in order."""

    def __init__(
        self,
        publish: Callable[[list[Change]], None],
        *,
        clock: Callable[[], float],
        rand: Callable[[], float],
        background: Background | None = None,
    ) -> None:
        self._publish = publish
        self._clock = clock
        self._rand = rand
        self.state = StreamState()
        self._events = EventStream()
        self._attempts = 0
        "Failures in a row."
        self._connected_at = 0.0
        self._gap_published = True
        "Whether a change of everything was published for what may have been missed since the last byte."
        self._background = background or Background()
        self._task: asyncio.Task[None] | None = None

    def start(self, settings: CoreApiSettings) -> None:
        """Read the stream of these settings from now on. The same core API resumes it after the last event."""
        if self._task is not None:
            self._task.cancel()
        self.state.connected = False
        is_enabled = settings.changes and not settings.is_pushed
        self._task = (
            self._background.run(BackgroundTask.CHANGE_STREAM, lambda: self._stay_connected(settings))
            if is_enabled
            else None
        )

    async def stop(self) -> None:
        """End the connection, and wait for the task to end."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _stay_connected(self, settings: CoreApiSettings) -> None:
        self._attempts = 0
        self.state.connected = False
        last_reason = ""
        while True:
            pause = 0.0
            try:
                await self._read(settings)
                reason = "the core API ended it"
            except _NotOffered as error:
                reason, pause = str(error), NOT_OFFERED_PAUSE
            except (aiohttp.ClientError, OSError, ValueError, TimeoutError, _Broken) as error:
                if isinstance(error, _Broken):
                    self._events = EventStream()  # resumed at the same event, it would break again
                reason = f"{type(error).__name__}: {error}".rstrip(": ")
            was_connected, self.state.connected = self.state.connected, False
            if was_connected or reason != last_reason:  # one log line for each reason, not for each attempt
                log.warning(
                    "change stream lost",
                    extra={"code": "change_stream_lost", "reason": reason},
                )
            last_reason = reason
            if was_connected and self._clock() - self._connected_at >= LONGEST_PAUSE:
                self._attempts = 0
            pause = pause or min(SHORTEST_PAUSE * 2.0 ** min(self._attempts, 10), LONGEST_PAUSE)
            self._attempts += 1
            await self._wait(pause * (0.75 + self._rand() / 2))

    async def _wait(self, seconds: float) -> None:
        """Wait before the next attempt. If `SILENCE` passes meanwhile, everything becomes stale."""
        left = self.state.last_message_at + SILENCE - self._clock()
        if not self._gap_published and left < seconds:
            await asyncio.sleep(max(0.0, left))
            self._publish_gap()
            seconds -= max(0.0, left)
        await asyncio.sleep(seconds)

    async def _read(self, settings: CoreApiSettings) -> None:
        """Read one connection until the core API ends it.

        Raises _NotOffered, _Broken, ValueError, TimeoutError, OSError, or an error of aiohttp.
        """
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
            self._on_connected()
            async for piece in response.content.iter_any():
                self._receive(piece)

    def _on_connected(self) -> None:
        resumes, self._events = bool(self._events.last_id), EventStream(self._events.last_id)
        log.info("change stream connected", extra={"code": "change_stream_connected"})
        self.state.connected, self.state.last_message_at = True, self._clock()
        self._connected_at = self.state.last_message_at
        if not resumes:
            self._publish_gap()
        self._gap_published = False

    def _receive(self, piece: bytes) -> None:
        self.state.last_message_at = self._clock()
        try:
            events = self._events.feed(piece)
        except TooLong as error:
            raise _Broken(str(error)) from error
        changes = [change_in(event.data) for event in events if event.name == "invalidate"]
        if changes:
            self.state.events += len(changes)
            self.state.gaps += changes.count(EVERYTHING)
            try:
                self._publish(list(dict.fromkeys(changes)))
            except Exception:
                self._events = EventStream()  # not published: resumed after them, they would be lost
                raise

    def _publish_gap(self) -> None:
        self.state.gaps += 1
        self._publish([EVERYTHING])
        self._gap_published = True
