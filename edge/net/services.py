"""What every connection of one worker shares. Built in `run/worker.py` and nowhere else."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from edge.net.entrance import Entrance
from edge.net.intake import Intake
from edge.net.pool import Pool
from edge.net.probes import Probe
from edge.net.reconnects import Reconnect
from edge.net.resolver import Resolver
from edge.net.sweep import Sweep
from edge.rules.admission import Request
from edge.rules.answers import Pages
from edge.rules.outcomes import Outcome
from edge.rules.routes import RouteTable
from edge.rules.settings import LimitSettings, RetrySettings, Settings, TimeoutSettings
from edge.rules.standings import Standing


@dataclass(slots=True)
class Counts:
    """Plain numbers that belong to nobody else."""

    connections: int = 0
    accepted: int = 0
    refused: int = 0
    exchanges: int = 0
    route_hits: int = 0
    route_stale: int = 0
    route_misses: int = 0
    unknown_hits: int = 0
    retries_exhausted: int = 0
    probes: int = 0
    reconnects: int = 0


@dataclass(slots=True, kw_only=True)
class Services:
    """One worker's collaborators, by what they are for."""

    settings: Settings
    timeouts: TimeoutSettings
    limits: LimitSettings
    least_body: int
    "Bytes of a request body that must come within each `timeouts.body`."
    retries: RetrySettings
    loop: asyncio.AbstractEventLoop
    clock: Callable[[], float]
    rand: Callable[[], float]
    next_id: Callable[[], bytes]
    "A new X-Request-Id."
    intake: Intake
    resolver: Resolver
    table: RouteTable
    pool: Pool
    sweep: Sweep
    entrance: Entrance
    pages: Pages
    crowd: Sequence[float]
    observe: Callable[[Outcome, Request | None], None]
    "Told of every finished exchange, and of the request if there was one."
    edge_line: bytes
    "`X-Styx-Edge`, ready to be sent."
    probing: set[Probe] = field(default_factory=set)
    "Probes on their way."
    reconnecting: dict[Standing, Reconnect] = field(default_factory=dict)
    "Backends that are down, and who connects to them."
    draining: bool = False
    "Every answer is the last one of its connection."
    counts: Counts = field(default_factory=Counts)
