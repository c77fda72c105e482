"""One worker: everything it needs is built here and nowhere else.

settings ─► Tally, AccessLog ─► observe
         ─► RouteTable, Environments, CoreApi ─► Resolver
         ─► Pool, Sweep, Admission, Pages ─► Services ─► Listeners
"""

import asyncio
import itertools
import secrets
import socket
import time
from collections.abc import Callable, Sequence
from random import Random

from edge.admin.access_log import AccessLog
from edge.admin.tally import Tally
from edge.net.backend_side import BackendConnection
from edge.net.core_api import CoreApi
from edge.net.entrance import Entrance
from edge.net.intake import Intake
from edge.net.listener import Listener
from edge.net.pool import Pool
from edge.net.resolver import Resolver
from edge.net.services import Services
from edge.net.sweep import Sweep
from edge.rules.admission import Admission
from edge.rules.answers import Pages
from edge.rules.environments import Environments
from edge.rules.explaining import explain
from edge.rules.outcomes import Outcome
from edge.rules.picker import crowd_table
from edge.rules.routes import RouteTable
from edge.rules.settings import Settings, TimeoutSettings
from edge.rules.snapshots import ExplainedRoute, WorkerSnapshot

DRAIN = 30.0
"Seconds that requests in hand have when a worker stops."


class Worker:
    """Serves clients on the sockets it is given, in the running loop, until it is stopped."""

    def __init__(self, settings: Settings, *, observe: Callable[[Outcome], None] | None = None) -> None:
        self.settings = settings
        self.tally = Tally()
        self.log = AccessLog(
            settings.access_log.path,
            buffer=settings.access_log.buffer,
            interval=settings.access_log.flush_interval,
        )
        self._also_observe = observe
        self._listeners: list[Listener] = []
        self.services = _services(settings, self.tally, self._observe)

    @property
    def ports(self) -> list[int]:
        """Where it listens, in the order of the settings; 0 for a Unix socket."""
        return [listener.port for listener in self._listeners]

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Begin to accept, on one socket for each listener of the settings.

        Raises OSError when the access log cannot be opened.
        """
        self.log.start()
        self.services.sweep.start()
        self.services.sweep.add(self.services.pool)
        for sock, chosen in zip(sockets, self.settings.listeners, strict=True):
            listener = Listener(sock, chosen, self.services)
            await listener.start()
            self._listeners.append(listener)

    async def stop(self, patience: float = DRAIN) -> None:
        """Accept no more; give requests in hand `patience` seconds; then end what is left."""
        for listener in self._listeners:
            await listener.stop()
        deadline = time.monotonic() + patience
        # An event instead would be work on the path of every request.
        while self.services.counts.exchanges and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        await self.services.resolver.close()
        await self.services.pool.close()
        self.services.sweep.stop()
        self.log.close()

    def snapshot(self) -> WorkerSnapshot:
        """What it tells about itself now."""
        services = self.services
        counts, pool, resolver = services.counts, services.pool, services.resolver
        return WorkerSnapshot(
            client_connections=counts.connections,
            client_connections_accepted=counts.accepted,
            client_connections_refused=counts.refused,
            exchanges=counts.exchanges,
            links_idle=pool.idle,
            links_open=pool.open,
            links_opened=pool.opened,
            links_reused=pool.reused,
            routes=len(resolver.table),
            unknown_hosts=resolver.table.absent,
            environments=len(resolver.environments),
            route_hits=counts.route_hits,
            route_stale=counts.route_stale,
            route_misses=counts.route_misses,
            unknown_hits=counts.unknown_hits,
            core_api_up=resolver.core_api.up,
            retries_exhausted=counts.retries_exhausted,
        )

    def explain(self, hostname: str) -> ExplainedRoute | None:
        """What it knows of a hostname; None = nothing."""
        services = self.services
        route = services.resolver.table.get(hostname)
        return None if route is None else explain(hostname, route, services.crowd, services.clock())

    def _observe(self, outcome: Outcome) -> None:
        self.tally.record(outcome)
        self.log.write(outcome)
        if self._also_observe is not None:
            self._also_observe(outcome)


def _services(settings: Settings, tally: Tally, observe: Callable[[Outcome], None]) -> Services:
    loop = asyncio.get_running_loop()
    rand = Random().random
    intake = Intake(Admission(settings.limits, settings.forwarding))
    table = RouteTable(settings.routes)
    resolver = Resolver(
        settings.core_api,
        table=table,
        environments=Environments(settings.demerits, settings.retries),
        core_api=CoreApi(settings.core_api, tally.core_answered),
        clock=time.monotonic,
        rand=rand,
    )
    pool = Pool(
        settings.pool,
        loop,
        lambda pool, place: BackendConnection(pool, place, intake, settings.limits),
    )
    name = settings.edge_name or socket.gethostname()
    edge_line = b"\r\nX-Styx-Edge: %b\r\n" % name.encode("ascii", "replace")
    next_id, pages = request_ids(), Pages()
    return Services(
        settings=settings,
        timeouts=settings.timeouts,
        limits=settings.limits,
        least_body=max(1, int(settings.limits.body_rate * settings.timeouts.body)),
        retries=settings.retries,
        loop=loop,
        clock=time.monotonic,
        rand=rand,
        next_id=next_id,
        intake=intake,
        resolver=resolver,
        table=table,
        pool=pool,
        sweep=Sweep(loop, sweep_period(settings.timeouts)),
        entrance=Entrance(settings.limits, pages=pages, edge_line=edge_line, next_id=next_id, observe=observe),
        pages=pages,
        crowd=crowd_table(settings.demerits.crowd_power),
        observe=observe,
        edge_line=edge_line,
    )


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
