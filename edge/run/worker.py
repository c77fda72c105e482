"""One worker: accepts on listening sockets; is reconfigured, drained and stopped.

settings ─► RequestCounters, AccessLog ─► WorkerContext (`context_setup.py`) ─► Listeners
"""

import asyncio
import os
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from random import Random

from edge.admin.log.access_log import AccessLog
from edge.admin.metrics.worker_numbers import WorkerNumbers
from edge.admin.metrics_table import worker_status
from edge.admin.request_counters import RequestCounters
from edge.admin.scoreboard import Row, Scoreboard
from edge.net.accept.listener import Listener
from edge.net.background import Background, Timer
from edge.net.certificates.certificate_wishes import CertificateWishes
from edge.net.deadline_sweep import sweep_period
from edge.net.drain_cutoff import cut_off
from edge.net.h1.h1_connection import H1Connection
from edge.net.h2.h2_connection import H2Connection
from edge.net.request.long_exchanges import LongExchanges
from edge.net.routing.name_search import search_name
from edge.net.routing.own_addresses import OwnAddresses
from edge.net.routing.pushed_routes import PushedRoutes
from edge.net.routing.route_source import route_source
from edge.rules.background_tasks import HEARTBEAT_PERIOD, BackgroundTask
from edge.rules.balancing.health_records import HealthEvent
from edge.rules.exchange_observers import OutcomeLog
from edge.rules.exchange_records import Outcome
from edge.rules.explain import RouteFilter, explain, explain_without_route, list_routes
from edge.rules.explain_records import ExplainedRoute, KnownName, RoutePage
from edge.rules.http.head_validation import HeadValidator, Request, Response
from edge.rules.pages.page_table import PageTable
from edge.rules.pages.template_files import FoundPage, usable_pages
from edge.rules.routing.invalidation import EVERYTHING
from edge.rules.settings import ListenerSettings, Settings
from edge.rules.tls.ticket_chain import TicketChain
from edge.run import event_log
from edge.run.context_setup import worker_context
from edge.run.pages.page_directory import read_pages
from edge.run.processes.fd_limit import descriptor_shares
from edge.run.routes.pushed_sources import read_now
from edge.run.tls_setup import WorkerTls, backend_tls
from edge.run.traces.worker_traces import WorkerTraces

ROUTES_PER_TURN = 200
"Routes that are updated after a change of drains in one turn of the loop; each takes some ten microseconds."


class _Observer:
    """An `OutcomeLog` that calls a function; for tests and measurements."""

    def __init__(self, observe: Callable[[Outcome], None]) -> None:
        self._observe = observe

    def write(self, outcome: Outcome, request: Request | None = None, response: Response | None = None) -> None:
        """Call the function."""
        self._observe(outcome)


class Worker:
    """Serves clients on the given sockets, in the running loop, until it is stopped."""

    def __init__(
        self,
        settings: Settings,
        *,
        row: Row | None = None,
        observe: Callable[[Outcome], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        rand: Callable[[], float] | None = None,
        tickets: TicketChain | None = None,
    ) -> None:
        """`observe`: called with each outcome. `rand`: returns the random numbers that backends are drawn with,
        uniform in [0, 1). `tickets`: the chain of all workers; None = one of its own."""
        self.settings = settings
        self.row = row or _row_of_its_own()
        self._numbers = WorkerNumbers(self.row, settings, self.snapshot)
        self.request_counters = RequestCounters(self.row)
        edge_name = settings.edge_name or socket.gethostname()
        self.log = AccessLog(settings.access_log, edge=edge_name, worker=self.row.slot)
        self._drain_timer: asyncio.TimerHandle | None = None
        self.background = Background(self.row.task_failed)
        self._running: list[Timer | asyncio.Task[None]] = []
        "What is cancelled when it stops."
        self._beat_due = 0.0
        self._listeners: list[Listener] = []
        self._own_listeners: list[Listener] = []
        """Those of its own sockets, in the order of the settings. Others accept on sockets of another worker, or of
        one that is no more."""
        self._own = OwnAddresses(settings)
        self._source_change: asyncio.Task[None] | None = None
        self._traces: WorkerTraces | None = None
        self.pages_known = asyncio.Event()
        "Set when it was told which error pages there are."
        line_log = self.log if self.log.usual_lines is not None else None
        outcome_logs: list[OutcomeLog] = [self.log] if self.log.is_on and line_log is None else []
        if observe is not None:
            outcome_logs.append(_Observer(observe))
        self.context = worker_context(
            settings, self.request_counters, tuple(outcome_logs), line_log, self._own, clock=clock, rand=rand
        )
        self._tls: WorkerTls | None = None
        if any(listener.tls for listener in settings.listeners):
            self._tls = WorkerTls(
                self.context,
                tickets,
                rand or Random().random,
                lambda result: self.request_counters.record_handshake(result.seconds),
            )
            self.context.tls = self._tls.service

    @property
    def certificate_wishes(self) -> CertificateWishes | None:
        """The names for which it has found no certificate; None = styx obtains none by itself."""
        return None if self._tls is None else self._tls.wishes

    @property
    def ports(self) -> list[int]:
        """The ports that it listens on, in the order of the settings; 0 for a Unix socket."""
        return [listener.port for listener in self._listeners]

    async def start(self, sockets: Sequence[tuple[ListenerSettings, socket.socket]]) -> None:
        """Begin to accept on these sockets, without an admin process: a pushed source of routes and error pages are
        read here, once.

        Raises what `prepare`, `accept` and `PushedSource.read_now` raise."""
        self.prepare()
        if self.settings.pages.directory is not None:
            with suppress(OSError):  # then it has the built-in page
                checked = await asyncio.to_thread(read_pages, self.settings.pages.directory, {})
                self.use_pages(usable_pages(checked.files.items()))
        routes = await asyncio.to_thread(read_now, self.settings.core_api)
        if routes is not None:
            await self.context.pushed.replace(routes.version, routes.parts)
        await self.accept(sockets)

    def prepare(self) -> None:
        """Start all but accepting. Raises OSError when the access log cannot be opened, or certificates or a token
        not be read."""
        self.log.start()
        if self.settings.traces.endpoint is not None:
            self._traces = WorkerTraces(self.settings, self.context)
            self._traces.start()
        self.context.pool.tls = backend_tls(self.context.loop, self.settings)
        self.context.deadline_sweep.start()
        self._beat_due = self.context.loop.time()
        self._beat()
        self._running.append(self.background.every(BackgroundTask.HEARTBEAT, HEARTBEAT_PERIOD, self._beat))
        self.context.deadline_sweep.add(self.context.pool)
        self.context.deadline_sweep.add(self.context.hangups)
        self.context.deadline_sweep.add(self.context.buffers)
        if self.log.is_on and self.settings.access_log.long_after:
            long_exchanges = LongExchanges(self.context, self.log, self.settings.access_log.long_after)
            self._running.append(self.background.run(BackgroundTask.LONG_EXCHANGES, long_exchanges.watch))
        if self._tls is not None:
            self._tls.prepare()
            self._tls.start(self.background)
            self.context.deadline_sweep.add(self._tls.service.rotation)
        self.publish()  # what was read since the first heartbeat: nobody asks a worker that is ready too early

    async def accept(
        self, sockets: Sequence[tuple[ListenerSettings, socket.socket]], *, for_another: bool = False
    ) -> list[Listener]:
        """Begin to accept on these sockets; `for_another`: on those of another worker. The first socket of each
        listener is the worker's own. Raises OSError when another process has just begun to listen on the same
        address."""
        listeners = [Listener(sock, chosen, self.context) for chosen, sock in sockets]
        before = None
        for listener, (chosen, _) in zip(listeners, sockets, strict=True):
            await listener.start()
            self._listeners.append(listener)
            if chosen is not before and not for_another:
                self._own_listeners.append(listener)
            before = chosen
        for _, sock in sockets:
            self._own.add_socket(sock)
        return listeners

    async def stop_accepting(self, listener: Listener) -> None:
        """Stop accepting on this listener; its connections stay."""
        await listener.stop()
        self._listeners.remove(listener)

    def publish(self) -> None:
        """Write the numbers that are counted where they are used to the scoreboard; and what was accepted on each
        listener, by which the master finds accept queues that are stuck."""
        self._numbers.publish(self.context.counts.listeners.values())
        for number, listener in enumerate(self._own_listeners):
            self.row.publish_accepted(number, listener.accepted)

    def _beat(self) -> None:
        now, due = self.context.loop.time(), self._beat_due
        self._beat_due = now + HEARTBEAT_PERIOD
        self._numbers.beat(self.context.clock(), max(0.0, now - due))
        event_log.expire_override(time.monotonic())
        self.publish()

    def reconfigure(self, settings: Settings) -> None:
        """Apply the hot ones of these settings (`rules/settings/diff.py`). Nothing learned is lost."""
        context, before = self.context, self.settings
        self.settings = settings
        context.reconfigure(settings)
        context.balancer.reconfigure(settings)
        context.head_reader.reconfigure(HeadValidator(settings.limits, settings.forwarding))
        self._reconfigure_source(settings, before)
        self.renew_identity()
        context.resolver.policy.reconfigure(
            settings.core_api.backend_networks,
            loopback=settings.core_api.is_local,
            sockets=settings.core_api.allows_unix_backends,
        )
        context.resolver.lookups.reconfigure(settings.limits)
        context.resolver.environments.reconfigure(settings.demerits, settings.retries)
        context.table.reconfigure(settings.routes)
        shares = descriptor_shares(settings)
        context.pool.reconfigure(settings.pool, most_open=shares.backends)
        context.connection_limiter.reconfigure(settings.limits, shares)
        context.buffers.reconfigure(settings.limits.buffers)
        if context.tls is not None:
            context.tls.reconfigure(settings.limits)
        context.deadline_sweep.reconfigure(sweep_period(settings.timeouts))
        for listener in self._listeners:
            listener.reconfigure(settings.timeouts)

    def use_pages(self, pages: Iterable[FoundPage]) -> None:
        """Make error pages of these templates from now on."""
        self.context.pages.use(PageTable(pages))
        self.pages_known.set()

    def renew_identity(self) -> None:
        """Read the certificates with which styx identifies itself again, except for lookups."""
        if self.context.pool.tls is not None:
            self.context.pool.tls.read_again()
        if self._tls is not None:
            self._tls.renew()

    def _reconfigure_source(self, settings: Settings, before: Settings) -> None:
        if settings.core_api.is_pushed != before.core_api.is_pushed:
            if self._source_change is not None:
                self._source_change.cancel()
            self._source_change = self.context.loop.create_task(self._change_source(), name="other source")
        elif self._source_change is None or self._source_change.done():
            self.context.resolver.reconfigure(settings.core_api)

    async def _change_source(self) -> None:
        """Change from a core API to a pushed source, once its routes have arrived, or back. All routes are
        invalidated."""
        context, resolver = self.context, self.context.resolver
        if self.settings.core_api.is_pushed:
            await context.pushed.arrived.wait()
            resolver.compact_routes.close()
        else:
            context.pushed = PushedRoutes(context.table, context.clock)
            resolver.compact_routes.is_enabled = True
        resolver.exists = context.pushed.knows
        source = route_source(
            self.settings.core_api, self.request_counters.record_lookup, resolver.policy, context.pushed
        )
        resolver.replace_source(source)
        resolver.reconfigure(self.settings.core_api)
        await resolver.invalidator.invalidate(EVERYTHING)

    async def drain(self, time_limit: float, idle: float) -> None:
        """Stop accepting, and wait until all connections have ended. Requests in flight have `time_limit` seconds;
        each response is the last of its connection; a connection that is idle for `idle` seconds is closed."""
        context = self.context
        now = context.clock()
        context.draining = True
        for member in context.deadline_sweep:
            if isinstance(member, H1Connection | H2Connection):
                member.shorten_idle_timeout(now, idle)
        context.hot.keep_alive = idle
        for listener in self._listeners:
            await listener.stop()
        if time_limit:
            await asyncio.sleep(0)  # what the loop has accepted in this turn begins, and is counted, at its end
        # Polled, because an event would cost time in every request.
        while context.counts.connections and context.clock() < now + time_limit:  # noqa: ASYNC110
            await asyncio.sleep(0.02)

    async def stop(self, time_limit: float = 0.0, idle: float = 0.0, *, flush_timeout: float = 1.0) -> None:
        """Drain, then cut off what is left: clients have `flush_timeout` seconds to read what was written."""
        await self.drain(time_limit, idle)
        await cut_off(self.context, flush_timeout)
        for running in self._running:
            running.cancel()
        if self._source_change is not None:
            self._source_change.cancel()
        await self.context.resolver.close()
        self.context.balancer.stop()
        self.context.probes.stop()
        await self.context.pool.close()
        self.context.deadline_sweep.stop()
        if self._traces is not None:
            await self._traces.close()
        if self._tls is not None:
            await self._tls.close()
        self.log.close()
        self.publish()

    def snapshot(self) -> Mapping[str, float]:
        """Its `Published` numbers now, as in the response to `GET /v1/overview`."""
        return worker_status(self)

    def learn_health(self, events: Sequence[HealthEvent]) -> None:
        """Take over what other workers have found out about backends."""
        context = self.context
        for event in events:
            context.resolver.environments.apply_event(event, context.clock(), context.balancer.rand())

    def explain(self, hostname: str) -> ExplainedRoute | None:
        """Explain a hostname to operators; None = nothing."""
        context, balancer = self.context, self.context.balancer
        route, now = context.resolver.known_route(hostname), context.clock()
        lookups = context.resolver.lookup_state(hostname)
        certificate = None if context.tls is None else context.tls.certificates.explain(hostname)
        if route is None:
            return explain_without_route(hostname, lookups, now, certificate)
        return explain(
            hostname,
            route,
            balancer.active_request_bias,
            now,
            lookups=lookups,
            drains=context.table.drains,
            certificate=certificate,
        )

    async def search_name(self, kind: str, name: str) -> KnownName:
        """Whether a hostname, or a backend, server or environment, is known here (`name_search.search_name`)."""
        context = self.context
        return await search_name(context.table, context.resolver.compact_routes, context.pushed, kind, name)

    def list_routes(self, wanted: RouteFilter, start: int, most: int) -> RoutePage:
        """A page of its routes (`rules.explain.list_routes`)."""
        context = self.context
        compact = context.resolver.compact_routes.listed
        return list_routes(context.table, compact, wanted, start=start, most=most, now=context.clock())

    def set_drain(self, kind: str, name: str, seconds: float, by: str = "") -> int:
        """Send no new requests to these backends for so many seconds; 0 = end the drain. `by`: who says so. Returns
        the number of drains now.

        Raises what `Drains.set` raises.
        """
        drains, now = self.context.table.drains, self.context.clock()
        drains.set(kind, name, now + seconds if seconds else None, by)
        self._apply_drains()
        return len(drains)

    def _apply_drains(self) -> None:
        """Update all routes to the drains of now, and again when the next drain ends."""
        context = self.context
        if self._drain_timer is not None:
            self._drain_timer.cancel()
        ends = context.table.drains.expire(context.clock())
        self._drain_timer = (
            None if ends is None else context.loop.call_later(ends - context.clock(), self._apply_drains)
        )
        self._apply_drains_to(context.table.hostnames())

    def _apply_drains_to(self, left: list[str]) -> None:
        """Update these routes, some in each turn of the loop: a hundred thousand at once would delay all requests
        by half a second."""
        table = self.context.table
        if len(left) > ROUTES_PER_TURN:
            self.context.loop.call_soon(self._apply_drains_to, left[ROUTES_PER_TURN:])
        for hostname in left[:ROUTES_PER_TURN]:
            route = table.peek(hostname)
            if route is not None:
                route.arrange(table.drains)


def _row_of_its_own() -> Row:
    row = Scoreboard(2).row(1)
    row.begin(0, os.getpid(), time.monotonic())
    return row
