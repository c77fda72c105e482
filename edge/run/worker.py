"""One worker: builds all that it serves with, from its settings; reconfigures, drains and stops it.

settings ─► RequestCounters, AccessLog
         ─► RouteTable, Environments, RouteSource ─► RouteResolver
         ─► Pool, DeadlineSweep, HeadReader, LocalReplies ─► WorkerContext ─► Listeners
"""

import asyncio
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from random import Random

from edge.admin.log.access_log import AccessLog
from edge.admin.metrics.worker_numbers import WorkerNumbers
from edge.admin.metrics_table import worker_status
from edge.admin.request_counters import RequestCounters
from edge.admin.scoreboard import Row, Scoreboard
from edge.net.accept.connection_limit import ConnectionLimiter
from edge.net.accept.listener import Listener
from edge.net.background import Background, Timer
from edge.net.balancing.balancer import Balancer
from edge.net.balancing.pool import Pool
from edge.net.deadline_sweep import DeadlineSweep, sweep_period
from edge.net.deferred_queue import DeferredQueue
from edge.net.drain_cutoff import cut_off
from edge.net.h1.h1_backend import H1Backend
from edge.net.h1.h1_connection import H1Connection
from edge.net.h1.head_reader import HeadReader
from edge.net.h2.h2_connection import H2Connection
from edge.net.limits.buffer_limit import BufferLimit
from edge.net.limits.hangup_watch import HangupWatch
from edge.net.limits.idle_connections import IdleConnections
from edge.net.redis.redis_routes import RedisRoutes
from edge.net.request.long_exchanges import LongExchanges
from edge.net.request.request_ids import RequestIds
from edge.net.routing.name_search import search_name
from edge.net.routing.own_addresses import OwnAddresses
from edge.net.routing.pushed_routes import PushedRoutes
from edge.net.routing.resolver import RouteResolver
from edge.net.routing.route_source import route_source
from edge.net.transport.read_budget import ReadBudget
from edge.net.worker_context import WorkerContext
from edge.rules.background_tasks import HEARTBEAT_PERIOD, BackgroundTask
from edge.rules.balancing.environments import Environments
from edge.rules.balancing.health_records import HealthEvent
from edge.rules.exchange_observers import OutcomeLog
from edge.rules.exchange_records import Outcome
from edge.rules.explain import RouteFilter, explain, explain_without_route, list_routes
from edge.rules.explain_records import ExplainedRoute, KnownName, RoutePage
from edge.rules.http.head_validation import HeadValidator
from edge.rules.http.local_reply import LocalReplies
from edge.rules.limits.unknown_host_limit import UnknownHostLimit
from edge.rules.routing.invalidation import EVERYTHING
from edge.rules.routing.route_table import RouteTable
from edge.rules.routing.route_validation import BackendPolicy
from edge.rules.settings import ListenerSettings, Settings
from edge.rules.tls.ticket_chain import TicketChain
from edge.run.outcome_observer import OutcomeObserver
from edge.run.processes.fd_limit import descriptor_shares
from edge.run.routes.pushed_sources import read_now
from edge.run.tls_setup import WorkerTls, backend_tls

ROUTES_PER_TURN = 200
"Routes that are updated after a change of drains in one turn of the loop; each takes some ten microseconds."


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
        self._own = OwnAddresses(settings)
        self._source_change: asyncio.Task[None] | None = None
        outcome_logs: list[OutcomeLog] = [self.log] if self.log.is_on else []
        if observe is not None:
            outcome_logs.append(OutcomeObserver(observe))
        self.context = _context(settings, self.request_counters, tuple(outcome_logs), self._own, clock, rand)
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
    def ports(self) -> list[int]:
        """The ports that it listens on, in the order of the settings; 0 for a Unix socket."""
        return [listener.port for listener in self._listeners]

    async def start(self, sockets: Sequence[tuple[ListenerSettings, socket.socket]]) -> None:
        """Begin to accept on these sockets, without an admin process: a pushed source of routes is read here, once.

        Raises what `prepare`, `accept` and `PushedSource.read_now` raise."""
        self.prepare()
        routes = await asyncio.to_thread(read_now, self.settings.core_api)
        if routes is not None:
            await self.context.pushed.replace(routes.version, routes.parts)
        await self.accept(sockets)

    def prepare(self) -> None:
        """Start all but accepting. Raises OSError when the access log cannot be opened, or certificates not
        be read."""
        self.log.start()
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

    async def accept(self, sockets: Sequence[tuple[ListenerSettings, socket.socket]]) -> list[Listener]:
        """Begin to accept on these sockets. Raises OSError when another process has just begun to listen on the
        same address."""
        listeners = [Listener(sock, chosen, self.context) for chosen, sock in sockets]
        for listener in listeners:
            await listener.start()
            self._listeners.append(listener)
        for _, sock in sockets:
            self._own.add_socket(sock)
        return listeners

    async def stop_accepting(self, listener: Listener) -> None:
        """Stop accepting on this listener; its connections stay."""
        await listener.stop()
        self._listeners.remove(listener)

    def publish(self) -> None:
        """Write the numbers that are counted where they are used to the scoreboard."""
        self._numbers.publish(self.context.counts.listeners.values())

    def _beat(self) -> None:
        now, due = self.context.loop.time(), self._beat_due
        self._beat_due = now + HEARTBEAT_PERIOD
        self._numbers.beat(self.context.clock(), max(0.0, now - due))
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
        await self.context.pool.close()
        self.context.deadline_sweep.stop()
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
        """What it knows about a hostname; None = nothing."""
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


def _context(
    settings: Settings,
    request_counters: RequestCounters,
    outcome_logs: tuple[OutcomeLog, ...],
    own: OwnAddresses,
    clock: Callable[[], float],
    rand: Callable[[], float] | None,
) -> WorkerContext:
    loop = asyncio.get_running_loop()
    shares = descriptor_shares(settings)
    deadline_sweep = DeadlineSweep(loop, sweep_period(settings.timeouts), clock)
    idle_clients = IdleConnections(lambda: deadline_sweep, clock)
    head_reader = HeadReader(HeadValidator(settings.limits, settings.forwarding))
    site_slots = {site: slot for slot, site in enumerate(settings.metrics.sites)}
    environments = Environments(settings.demerits, settings.retries, site_slots)
    table = RouteTable(settings.routes, environments)
    pushed = PushedRoutes(table, clock)
    policy = BackendPolicy(
        settings.core_api.backend_networks,
        loopback=settings.core_api.is_local,
        sockets=settings.core_api.allows_unix_backends,
        tls_names=settings.backends.tls.names,
        is_own=own.holds,
    )
    resolver = RouteResolver(
        settings.core_api,
        table=table,
        environments=environments,
        core_api=route_source(settings.core_api, request_counters.record_lookup, policy, pushed),
        unknown_host_limit=UnknownHostLimit(settings.limits),
        shared=_shared_routes(settings, clock),
        policy=policy,
        clock=clock,
        rand=Random().random,
    )
    resolver.exists = pushed.knows
    if settings.core_api.is_pushed:
        resolver.compact_routes.close()
    reading = ReadBudget(loop, time.monotonic)
    pool = Pool(
        settings.pool,
        loop,
        lambda pool, endpoint: H1Backend(pool, endpoint, head_reader, context.limits, reading),
        permits=policy.permits,
        most_open=shares.backends,
        makes_room=idle_clients.close_one,
    )
    name = settings.edge_name or socket.gethostname()
    edge_line = b"\r\nX-Styx-Edge: %b\r\n" % name.encode("ascii", "replace")
    request_ids, pages = RequestIds(), LocalReplies()

    def observe_rejected(outcome: Outcome) -> None:
        request_counters.record(outcome)
        for outcome_log in outcome_logs:
            outcome_log.write(outcome)

    context = WorkerContext(
        settings,
        loop=loop,
        clock=clock,
        request_ids=request_ids,
        head_reader=head_reader,
        resolver=resolver,
        pushed=pushed,
        table=table,
        pool=pool,
        balancer=Balancer(
            settings,
            pool=pool,
            table=table,
            environments=environments,
            loop=loop,
            clock=clock,
            rand=rand or Random().random,
        ),
        deadline_sweep=deadline_sweep,
        later=DeferredQueue(loop),
        hangups=HangupWatch(loop),
        buffers=BufferLimit(settings.limits.buffers, loop, clock),
        idle_clients=idle_clients,
        reading=reading,
        connection_limiter=ConnectionLimiter(
            settings.limits,
            shares,
            makes_room=idle_clients.close_one,
            pages=pages,
            edge_line=edge_line,
            request_ids=request_ids,
            observe=observe_rejected,
        ),
        pages=pages,
        exchange_counters=request_counters,
        outcome_logs=outcome_logs,
        edge_line=edge_line,
    )
    return context


def _shared_routes(settings: Settings, clock: Callable[[], float]) -> RedisRoutes | None:
    if settings.redis.url is None:
        return None
    return RedisRoutes(settings.redis, clock=clock, wall=time.time)
