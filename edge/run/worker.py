"""One worker: everything it needs is built here and nowhere else.

settings ─► Tally, AccessLog ─► observe
         ─► RouteTable, Environments, CoreApi ─► Resolver
         ─► Pool, Sweep, Admission, Pages ─► Services ─► Listeners
"""

import asyncio
import itertools
import os
import secrets
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from random import Random

from edge.admin.access_log import AccessLog
from edge.admin.board import Board, Row
from edge.admin.metrics_table import worker_status
from edge.admin.tally import Tally
from edge.net.backend_side import BackendConnection
from edge.net.background import Background, Timer
from edge.net.balancer import Balancer
from edge.net.buffers import Buffers
from edge.net.client_side import ClientConnection
from edge.net.cut_off import cut_off
from edge.net.entrance import Entrance
from edge.net.hangups import Hangups
from edge.net.idle_clients import IdleClients
from edge.net.intake import Intake
from edge.net.later import Later
from edge.net.listener import Listener
from edge.net.own_addresses import OwnAddresses
from edge.net.pool import Pool
from edge.net.pushed_routes import PushedRoutes
from edge.net.read_budget import ReadBudget
from edge.net.resolver import Resolver
from edge.net.route_source import route_source
from edge.net.services import Services
from edge.net.shared_routes import SharedRoutes
from edge.net.sweep import Sweep
from edge.rules.admission import Admission, Request
from edge.rules.answers import Pages
from edge.rules.background_tasks import HEARTBEAT_PERIOD, BackgroundTask
from edge.rules.changes import EVERYTHING
from edge.rules.environments import Environments
from edge.rules.exchange_records import Outcome
from edge.rules.explaining import RouteFilter, explain, list_routes
from edge.rules.health_records import Evidence
from edge.rules.route_table import RouteTable
from edge.rules.route_validation import BackendPolicy
from edge.rules.settings import ListenerSettings, Settings, TimeoutSettings
from edge.rules.snapshots import ExplainedRoute, RoutePage
from edge.rules.unknown_host_limit import UnknownHostLimit
from edge.run.open_files import descriptor_shares
from edge.run.pushed_sources import read_now

ARRANGED_AT_ONCE = 200
"Routes that are arranged anew before others get a turn; each takes some ten microseconds."


class Worker:
    """Serves clients on the sockets it is given, in the running loop, until it is stopped."""

    def __init__(
        self,
        settings: Settings,
        *,
        row: Row | None = None,
        observe: Callable[[Outcome], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        rand: Callable[[], float] | None = None,
    ) -> None:
        """`rand`: the random numbers that backends are chosen by, uniform in [0, 1)."""
        self.settings = settings
        self.row = row or _row_of_its_own()
        self.tally = Tally(self.row)
        self.log = AccessLog(settings.access_log)
        self._also_observe = observe
        self._undrain: asyncio.TimerHandle | None = None
        self.background = Background(self.row.task_failed)
        self._heart: Timer | None = None
        self._due = 0.0
        self._listeners: list[Listener] = []
        self._own = OwnAddresses(settings)
        self._source_change: asyncio.Task[None] | None = None
        self.services = _services(settings, self.tally, self._observe, self._own, clock, rand)

    @property
    def ports(self) -> list[int]:
        """Where it listens, in the order of the settings; 0 for a Unix socket."""
        return [listener.port for listener in self._listeners]

    async def start(self, sockets: Sequence[tuple[ListenerSettings, socket.socket]]) -> None:
        """Begin to accept on these, with no admin process: a source of routes that is pushed is read here, once.

        Raises what `prepare`, `accept` and `PushedSource.read_now` raise."""
        self.prepare()
        routes = await asyncio.to_thread(read_now, self.settings.core_api)
        if routes is not None:
            await self.services.pushed.replace(routes.version, routes.parts)
        await self.accept(sockets)

    def prepare(self) -> None:
        """All but accepting. Raises OSError when the access log cannot be opened."""
        self.log.start()
        self.services.sweep.start()
        self._due = self.services.loop.time()
        self._beat()
        self._heart = self.background.every(BackgroundTask.HEARTBEAT, HEARTBEAT_PERIOD, self._beat)
        self.services.sweep.add(self.services.pool)
        self.services.sweep.add(self.services.hangups)
        self.services.sweep.add(self.services.buffers)

    async def accept(self, sockets: Sequence[tuple[ListenerSettings, socket.socket]]) -> list[Listener]:
        """Begin to accept on these. Raises OSError when somebody else has begun on the same address just now."""
        listeners = [Listener(sock, chosen, self.services) for chosen, sock in sockets]
        for listener in listeners:
            await listener.start()
            self._listeners.append(listener)
        for _, sock in sockets:
            self._own.add_socket(sock)
        return listeners

    async def accept_no_more(self, listener: Listener) -> None:
        """The same on one of them; its connections stay."""
        await listener.stop()
        self._listeners.remove(listener)

    def publish(self) -> None:
        """Put on the board the numbers that are kept where they are used."""
        self.row.publish(self.snapshot())

    def _beat(self) -> None:
        now, due = self.services.loop.time(), self._due
        self._due = now + HEARTBEAT_PERIOD
        self.row.beat(self.services.clock(), max(0.0, now - due))
        self.publish()

    def obey(self, settings: Settings) -> None:
        """Go on by these settings, as far as they are hot (`rules/settings/diff.py`). Nothing learned is lost."""
        services, before = self.services, self.settings
        self.settings = settings
        services.reconfigure(settings)
        services.balancer.reconfigure(settings)
        services.intake.obey(Admission(settings.limits, settings.forwarding))
        self._obey_source(settings, before)
        services.resolver.policy.reconfigure(
            settings.core_api.backend_networks,
            loopback=settings.core_api.is_local,
            sockets=settings.core_api.allows_unix_backends,
        )
        services.resolver.lookups.reconfigure(settings.limits)
        services.resolver.environments.obey(settings.demerits, settings.retries)
        services.table.obey(settings.routes)
        shares = descriptor_shares(settings)
        services.pool.obey(settings.pool, most_open=shares.backends)
        services.entrance.obey(settings.limits, shares)
        services.buffers.obey(settings.limits.buffers)
        services.sweep.obey(sweep_period(settings.timeouts))
        for listener in self._listeners:
            listener.obey(settings.timeouts)

    def _obey_source(self, settings: Settings, before: Settings) -> None:
        if settings.core_api.is_pushed != before.core_api.is_pushed:
            if self._source_change is not None:
                self._source_change.cancel()
            self._source_change = self.services.loop.create_task(self._change_source(), name="other source")
        elif self._source_change is None or self._source_change.done():
            self.services.resolver.obey(settings.core_api)

    async def _change_source(self) -> None:
        """From a core API to a source that is pushed, when its routes have come, or back. All that is known is
        invalidated."""
        services, resolver = self.services, self.services.resolver
        if self.settings.core_api.is_pushed:
            await services.pushed.arrived.wait()
            resolver.shelf.close()
        else:
            services.pushed = PushedRoutes(services.table, services.clock)
            resolver.shelf.keeps = True
        resolver.exists = services.pushed.knows
        source = route_source(self.settings.core_api, self.tally.core_answered, resolver.policy, services.pushed)
        resolver.ask_instead(source)
        resolver.obey(self.settings.core_api)
        await resolver.invalidator.invalidate(EVERYTHING)

    async def drain(self, patience: float, idle: float) -> None:
        """Accept no more. Requests in hand have `patience` seconds; each answer is the last of its connection, and
        a connection that is silent for `idle` seconds is closed."""
        services = self.services
        now = services.clock()
        services.draining = True
        for member in services.sweep:
            if isinstance(member, ClientConnection):
                member.hurry(now, idle)
        services.usual.keep_alive = idle
        for listener in self._listeners:
            await listener.stop()
        # An event instead would be work on the path of every request.
        while services.counts.connections and services.clock() < now + patience:  # noqa: ASYNC110
            await asyncio.sleep(0.02)

    async def stop(self, patience: float = 0.0, idle: float = 0.0, *, flush_timeout: float = 1.0) -> None:
        """Drain, and end what is left: clients have `flush_timeout` seconds to take what they are told."""
        await self.drain(patience, idle)
        await cut_off(self.services, flush_timeout)
        if self._heart is not None:
            self._heart.cancel()
        if self._source_change is not None:
            self._source_change.cancel()
        await self.services.resolver.close()
        self.services.balancer.stop()
        await self.services.pool.close()
        self.services.sweep.stop()
        self.log.close()
        self.publish()

    def snapshot(self) -> Mapping[str, float]:
        """Its `Published` numbers now, as `GET /v1/overview` has them."""
        return worker_status(self)

    def hear(self, evidence: Sequence[Evidence]) -> None:
        """What other workers found out about backends."""
        services = self.services
        for finding in evidence:
            services.resolver.environments.hear(finding, services.clock(), services.balancer.rand())

    def explain(self, hostname: str) -> ExplainedRoute | None:
        """What it knows of a hostname; None = nothing."""
        services, balancer = self.services, self.services.balancer
        route = services.resolver.what_is_known_of(hostname)
        return None if route is None else explain(hostname, route, balancer.active_request_bias, services.clock())

    def list_routes(self, wanted: RouteFilter, start: int, most: int) -> RoutePage:
        """See `rules.explaining.list_routes`."""
        services = self.services
        compact = services.resolver.shelf.listed
        return list_routes(services.table, compact, wanted, start=start, most=most, now=services.clock())

    def drain_of(self, kind: str, name: str, seconds: float) -> int:
        """Give no new requests to these for so long; 0 = give them again. Returns how many drains there are now.

        Raises what `Drains.set` raises.
        """
        drains, now = self.services.table.drains, self.services.clock()
        drains.set(kind, name, now + seconds if seconds else None)
        self._arrange()
        return len(drains)

    def _arrange(self) -> None:
        """Arrange all routes by what is drained now, and again when the next drain ends."""
        services = self.services
        if self._undrain is not None:
            self._undrain.cancel()
        ends = services.table.drains.expire(services.clock())
        self._undrain = None if ends is None else services.loop.call_later(ends - services.clock(), self._arrange)
        self._arrange_some(services.table.hostnames())

    def _arrange_some(self, left: list[str]) -> None:
        """A hundred thousand at once would hold up everybody for half a second."""
        table = self.services.table
        if len(left) > ARRANGED_AT_ONCE:
            self.services.loop.call_soon(self._arrange_some, left[ARRANGED_AT_ONCE:])
        for hostname in left[:ARRANGED_AT_ONCE]:
            route = table.peek(hostname)
            if route is not None:
                route.arrange(table.drains)

    def _observe(self, outcome: Outcome, request: Request | None) -> None:
        self.tally.record(outcome)
        self.log.write(outcome, request)
        if self._also_observe is not None:
            self._also_observe(outcome)


def _row_of_its_own() -> Row:
    row = Board(2).row(1)
    row.begin(0, os.getpid(), time.monotonic())
    return row


def _services(
    settings: Settings,
    tally: Tally,
    observe: Callable[[Outcome, Request | None], None],
    own: OwnAddresses,
    clock: Callable[[], float],
    rand: Callable[[], float] | None,
) -> Services:
    loop = asyncio.get_running_loop()
    shares = descriptor_shares(settings)
    sweep = Sweep(loop, sweep_period(settings.timeouts), clock)
    idle_clients = IdleClients(lambda: sweep, clock)
    intake = Intake(Admission(settings.limits, settings.forwarding))
    environments = Environments(settings.demerits, settings.retries)
    table = RouteTable(settings.routes, environments)
    pushed = PushedRoutes(table, clock)
    policy = BackendPolicy(
        settings.core_api.backend_networks,
        loopback=settings.core_api.is_local,
        sockets=settings.core_api.allows_unix_backends,
        is_own=own.holds,
    )
    resolver = Resolver(
        settings.core_api,
        table=table,
        environments=environments,
        core_api=route_source(settings.core_api, tally.core_answered, policy, pushed),
        unknown_host_limit=UnknownHostLimit(settings.limits),
        shared=_shared_routes(settings, clock),
        policy=policy,
        clock=clock,
        rand=Random().random,
    )
    resolver.exists = pushed.knows
    if settings.core_api.is_pushed:
        resolver.shelf.close()
    reading = ReadBudget(loop, time.monotonic)
    pool = Pool(
        settings.pool,
        loop,
        lambda pool, place: BackendConnection(pool, place, intake, services.limits, reading),
        permits=policy.permits,
        most_open=shares.backends,
        makes_room=idle_clients.close_one,
    )
    name = settings.edge_name or socket.gethostname()
    edge_line = b"\r\nX-Styx-Edge: %b\r\n" % name.encode("ascii", "replace")
    next_id, pages = request_ids(), Pages()
    services = Services(
        settings,
        loop=loop,
        clock=clock,
        next_id=next_id,
        intake=intake,
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
        sweep=sweep,
        later=Later(loop),
        hangups=Hangups(loop),
        buffers=Buffers(settings.limits.buffers, loop, clock),
        idle_clients=idle_clients,
        reading=reading,
        entrance=Entrance(
            settings.limits,
            shares,
            makes_room=idle_clients.close_one,
            pages=pages,
            edge_line=edge_line,
            next_id=next_id,
            observe=lambda outcome: observe(outcome, None),
        ),
        pages=pages,
        observe=observe,
        edge_line=edge_line,
    )
    return services


def _shared_routes(settings: Settings, clock: Callable[[], float]) -> SharedRoutes | None:
    if settings.shared.url is None:
        return None
    return SharedRoutes(settings.shared, clock=clock, wall=time.time)


def request_ids() -> Callable[[], bytes]:
    """Ids that no other worker makes: a random beginning, then a count. 0.2 microseconds each."""
    beginning = secrets.token_hex(6).encode("ascii")
    count = itertools.count(1)
    return lambda: b"%b-%x" % (beginning, next(count))


def sweep_period(timeouts: TimeoutSettings) -> float:
    """A quarter of the shortest deadline that the sweep watches, at most a quarter of a second."""
    watched = (
        timeouts.head,
        timeouts.body,
        timeouts.keep_alive,
        timeouts.write_stall,
        timeouts.first_byte,
        timeouts.first_byte_cold,
        timeouts.between_bytes,
        timeouts.deadline,
    )
    return max(0.005, min(0.25, min(watched) / 4))
