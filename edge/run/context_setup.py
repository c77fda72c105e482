"""Puts together what all connections of one worker share, from the settings.

settings ─► Environments, RouteTable, route source ─► RouteResolver ─┐
         ─► Pool ─► Balancer                                         ├─► WorkerContext
         ─► DeadlineSweep, HeadReader, LocalReplies, limits ─────────┘
"""

import asyncio
import socket
import time
from collections.abc import Callable, Sequence
from random import Random

from edge.admin.request_counters import RequestCounters
from edge.net.accept.connection_limit import ConnectionLimiter
from edge.net.balancing.balancer import Balancer
from edge.net.balancing.pool import Pool
from edge.net.deadline_sweep import DeadlineSweep, sweep_period
from edge.net.h1.h1_backend import H1Backend
from edge.net.h1.head_reader import HeadReader
from edge.net.limits.buffer_limit import BufferLimit
from edge.net.limits.idle_connections import IdleConnections
from edge.net.redis.redis_routes import RedisRoutes
from edge.net.request.request_ids import RequestIds
from edge.net.routing.own_addresses import OwnAddresses
from edge.net.routing.pushed_routes import PushedRoutes
from edge.net.routing.resolver import RouteResolver
from edge.net.routing.route_source import route_source
from edge.net.transport.read_budget import ReadBudget
from edge.net.worker_context import WorkerContext
from edge.rules.balancing.environments import Environments
from edge.rules.exchange_observers import LineLog, OutcomeLog
from edge.rules.exchange_records import Outcome
from edge.rules.http.head_validation import HeadValidator
from edge.rules.http.local_reply import LocalReplies
from edge.rules.limits.unknown_host_limit import UnknownHostLimit
from edge.rules.routing.route_table import RouteTable
from edge.rules.routing.route_validation import BackendPolicy
from edge.rules.settings import Settings
from edge.run.processes.fd_limit import descriptor_shares


def worker_context(
    settings: Settings,
    counters: RequestCounters,
    outcome_logs: tuple[OutcomeLog, ...],
    line_log: LineLog | None,
    own: OwnAddresses,
    *,
    clock: Callable[[], float],
    rand: Callable[[], float] | None,
) -> WorkerContext:
    """The context of a worker in this loop. `own`: addresses that no backend may have. `rand`: None = random."""
    loop = asyncio.get_running_loop()
    deadline_sweep = DeadlineSweep(loop, sweep_period(settings.timeouts), clock)
    idle_clients = IdleConnections(lambda: deadline_sweep, clock)
    head_reader = HeadReader(HeadValidator(settings.limits, settings.forwarding))
    reading = ReadBudget(loop, time.monotonic)
    pushed, resolver = _routing(settings, counters, own, clock)

    def connection(pool: Pool, endpoint: str) -> H1Backend:
        return H1Backend(pool, endpoint, head_reader, context.limits, reading)

    balancer = _balancer(settings, resolver, connection, idle_clients, clock, rand or Random().random)
    request_ids, pages, edge_line = RequestIds(), LocalReplies(), _edge_line(settings)
    context = WorkerContext(
        settings,
        request_ids=request_ids,
        head_reader=head_reader,
        resolver=resolver,
        pushed=pushed,
        balancer=balancer,
        deadline_sweep=deadline_sweep,
        buffers=BufferLimit(settings.limits.buffers, loop, clock),
        idle_clients=idle_clients,
        reading=reading,
        connection_limiter=ConnectionLimiter(
            settings.limits,
            descriptor_shares(settings),
            makes_room=idle_clients.close_one,
            pages=pages,
            edge_line=edge_line,
            request_ids=request_ids,
            observe=_observer(counters, outcome_logs if line_log is None else (line_log, *outcome_logs)),
        ),
        pages=pages,
        exchange_counters=counters,
        outcome_logs=outcome_logs,
        line_log=line_log,
        edge_line=edge_line,
    )
    return context


def _routing(
    settings: Settings, counters: RequestCounters, own: OwnAddresses, clock: Callable[[], float]
) -> tuple[PushedRoutes, RouteResolver]:
    """The routes of a pushed source, and the resolver, which asks them or the core API."""
    site_slots = {site: slot for slot, site in enumerate(settings.metrics.sites)}
    environments = Environments(settings.demerits, settings.retries, site_slots)
    table = RouteTable(settings.routes, environments)
    pushed = PushedRoutes(table, clock, settings.core_api.source_label)
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
        core_api=route_source(settings.core_api, counters.record_lookup, policy, pushed),
        unknown_host_limit=UnknownHostLimit(settings.limits),
        shared=None if settings.redis.url is None else RedisRoutes(settings.redis, clock=clock, wall=time.time),
        policy=policy,
        clock=clock,
        rand=Random().random,
    )
    resolver.exists = pushed.knows
    if settings.core_api.is_pushed:
        resolver.compact_routes.close()
    return pushed, resolver


def _balancer(
    settings: Settings,
    resolver: RouteResolver,
    new_connection: Callable[[Pool, str], H1Backend],
    idle_clients: IdleConnections,
    clock: Callable[[], float],
    rand: Callable[[], float],
) -> Balancer:
    """The balancer, with its pool of connections to backends."""
    loop = asyncio.get_running_loop()
    pool = Pool(
        settings.pool,
        loop,
        new_connection,
        permits=resolver.policy.permits,
        most_open=descriptor_shares(settings).backends,
        makes_room=idle_clients.close_one,
    )
    return Balancer(
        settings,
        pool=pool,
        table=resolver.table,
        environments=resolver.environments,
        loop=loop,
        clock=clock,
        rand=rand,
    )


def _edge_line(settings: Settings) -> bytes:
    """The X-Styx-Edge line, between two others."""
    name = settings.edge_name or socket.gethostname()
    return b"\r\nX-Styx-Edge: %b\r\n" % name.encode("ascii", "replace")


def _observer(counters: RequestCounters, outcome_logs: Sequence[OutcomeLog]) -> Callable[[Outcome], None]:
    """What counts and logs outcomes of which there is a record already, as of rejected connections."""

    def observe(outcome: Outcome) -> None:
        counters.record(outcome)
        for outcome_log in outcome_logs:
            outcome_log.write(outcome)

    return observe
