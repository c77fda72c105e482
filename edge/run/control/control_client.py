"""A worker's end of the control channel: replies to the admin process, and exchanges routes and changes with it.

The admin process may be slow, stall, or die and be replaced: requests are not affected. What waits to be sent to it
is bounded: beyond that nothing more is sent, and when it asks without reading the replies, the worker closes the
connection and connects again after a pause.
"""

import asyncio
import logging
import os
import time
from contextlib import suppress
from typing import Any

import msgspec

from edge import __version__
from edge.admin.admin_messages import ProcessLogLevel
from edge.net.background import Timer
from edge.net.certificates.certificate_wishes import known_to_source
from edge.net.limits.client_report import busiest_clients
from edge.rules.background_tasks import BackgroundTask
from edge.rules.explain import RouteFilter
from edge.rules.pages.template_files import page_of
from edge.rules.routing.change_records import Change
from edge.rules.routing.route_records import records
from edge.run import event_log
from edge.run.control.control_link import ControlLink, Password
from edge.run.control.control_messages import (
    MOST,
    MOST_RECORD_BYTES,
    MOST_RECORDS,
    AboutRoutes,
    AskClients,
    AskExplain,
    AskHostname,
    AskLogLevel,
    AskName,
    AskRoutes,
    AskSnapshot,
    AskStatus,
    AskTop,
    BadMessage,
    CertificatesWanted,
    Changed,
    ControlReply,
    Drained,
    DrainOf,
    HealthEventsSeen,
    Hello,
    Invalidate,
    PagesAre,
    RenewTokens,
    RoutesLearned,
    ServeChallenges,
    SetLogLevel,
    ToWorker,
)
from edge.run.recent_events import RecentEvents
from edge.run.routes.route_set_receiver import RouteSetReceiver
from edge.run.worker import Worker
from edge.run.worker_status_reporter import WorkerStatusReporter

SEND_INTERVAL = 0.1
"Seconds for which learned routes are gathered before they are sent to the other workers."
WAITING = 4 << 20
"Bytes that may wait for an admin process that does not read, plus one message."

MOST_REPLY = MOST - 1024
"Bytes of one reply to the admin process."

log = logging.getLogger("styx.control")


class ControlClient(ControlLink):
    """A worker's connection to the admin process. `waiting`: as WAITING. `recent_events`: of this process."""

    def __init__(
        self,
        worker: Worker,
        slot: int,
        password: Password,
        *,
        waiting: int = WAITING,
        recent_events: RecentEvents | None = None,
    ) -> None:
        super().__init__(password, ToWorker)
        self._worker = worker
        self._slot = slot
        self._most_waiting = waiting
        self._task: asyncio.Task[None] | None = None
        self._sender: Timer | None = None
        self._shared = worker.context.resolver.environments.shared
        self._shared.ring = self._schedule_health_events
        self.routes_pushed = RouteSetReceiver(lambda: worker.context.pushed, self._send)
        self._sending_soon = False
        self._replying: set[asyncio.Task[None]] = set()
        self._status = WorkerStatusReporter(worker.context, recent_events)

    def start(self) -> None:
        """Connect now, and again whenever the connection is lost."""
        background = self._worker.background
        self.routes_pushed.start(background)
        self._task = background.run(BackgroundTask.CONTROL_CHANNEL, self.stay_connected)
        self._sender = background.every(BackgroundTask.CONTROL_SENDER, SEND_INTERVAL, self._send_learned)

    async def stop(self) -> None:
        """Send what is left, close the connection, and do not connect again."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        if self._sender is not None:
            self._sender.cancel()
        await self.routes_pushed.stop()
        for replying in self._replying:
            replying.cancel()
        await asyncio.gather(*self._replying, return_exceptions=True)
        self._send_learned()
        if self._transport is not None:
            self._transport.close()

    @property
    def _is_read(self) -> bool:
        """Whether the admin process is connected and reads."""
        return self._has_room(self._most_waiting)

    def _send_learned(self) -> None:
        """Send learned routes and discovered changes to the admin process, which passes them on and saves them.
        While there is no room, only their hostnames are remembered."""
        resolver = self._worker.context.resolver
        while self._is_read and (
            learned := resolver.compact_routes.take_unpublished(MOST_RECORDS, MOST_RECORD_BYTES)
        ):
            self._send(RoutesLearned(learned))
        if self._is_read and (changes := resolver.discovered.take_all(self._worker.context.clock())):
            self._send(Changed(changes))
        wishes = self._worker.certificate_wishes
        if wishes is not None and self._is_read and (wanted := wishes.take()):
            self._send(CertificatesWanted(wanted))

    def _schedule_health_events(self) -> None:
        """Send health events at the end of this turn of the loop, all in one message."""
        if not self._sending_soon:
            self._sending_soon = True
            asyncio.get_running_loop().call_soon(self._send_health_events)

    def _send_health_events(self) -> None:
        self._sending_soon = False
        events = self._shared.take()
        if self._is_read:
            self._send(HealthEventsSeen(events))

    # ControlLink

    def _connected(self) -> None:
        drains = self._worker.context.table.drains.left(self._worker.context.clock())
        self._send(Hello(__version__, self._password.secret, self._slot, os.getpid()))
        self._send(Drained(drains))

    def _disconnected(self) -> None:
        self.routes_pushed.disconnected()

    def _receive(self, message: Any) -> None:
        """Handle one message. An exception is logged: closing the connection would not help, because the same
        message may come again over the next one."""
        try:
            if isinstance(message, RoutesLearned):
                self._worker.context.resolver.learn(records(b"".join(message.records)))
            elif isinstance(message, HealthEventsSeen):
                self._worker.learn_health(message.evidence)
            elif isinstance(message, AboutRoutes):
                self.routes_pushed.received(message)
            elif isinstance(message, PagesAre):
                self._worker.use_pages(map(page_of, message.pages))
            elif isinstance(message, Changed):
                self._worker.context.resolver.invalidator.changed(message.changes)
            else:
                replying = asyncio.create_task(self._reply(message), name=type(message).__name__)
                self._replying.add(replying)
                replying.add_done_callback(self._replying.discard)
        except Exception:
            self._worker.row.task_failed(BackgroundTask.CONTROL_CHANNEL)
            log.exception(
                "control message failed",
                extra={"code": "control_message_failed", "message_type": type(message).__name__},
            )

    async def _reply(self, request: Any) -> None:
        try:
            reply = ControlReply(request.number, msgspec.json.encode(await self._carry_out(request)))
            if len(reply.body) > MOST_REPLY:
                raise BadMessage(f"a reply of {len(reply.body)} bytes, at most {MOST_REPLY}")
        except Exception as error:  # reported to the admin process; it must not affect requests
            log.exception(
                "control request failed",
                extra={"code": "control_request_failed", "message_type": type(request).__name__},
            )
            reply = ControlReply(request.number, b"", f"{type(error).__name__}: {error}")
        if self._is_read:
            self._send(reply)
        elif self._transport is not None:
            log.warning("control connection stalled", extra={"code": "control_connection_stalled"})
            self._transport.abort()

    async def _carry_out(self, request: Any) -> object:
        worker = self._worker
        match request:
            case AskSnapshot():
                return worker.snapshot()
            case AskExplain(_, host):
                return worker.explain(host)
            case AskRoutes(_, start, most, site, freshness):
                return worker.list_routes(RouteFilter(site, freshness), start, most)
            case Invalidate(_, kind, name):
                return await worker.context.resolver.invalidator.invalidate(Change(kind, name))
            case DrainOf(_, kind, name, seconds, by):
                return worker.set_drain(kind, name, seconds, by)
            case AskName(_, kind, name):
                return await worker.search_name(kind, name)
            case AskTop():
                return self._status.top()
            case AskStatus():
                return await self._status.report()
            case AskClients():
                return await busiest_clients(worker.context)
            case AskLogLevel():
                return ProcessLogLevel(*event_log.level_now(time.monotonic()))
            case SetLogLevel(_, level, seconds):
                event_log.follow_order(level, seconds, time.monotonic())
                return ProcessLogLevel(*event_log.level_now(time.monotonic()))
            case ServeChallenges(_, challenges):
                if worker.context.challenges is not None:
                    worker.context.challenges.replace(challenges)
            case AskHostname(_, host):
                return await known_to_source(worker.context.resolver.resolve, host)
            case RenewTokens():
                worker.context.resolver.renew_token()
                worker.renew_identity()
        return None
