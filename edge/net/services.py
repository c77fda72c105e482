"""What every connection of one worker shares. Built in `run/worker.py` and nowhere else."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from edge.net.buffers import Buffers
from edge.net.entrance import Entrance
from edge.net.hangups import Hangups
from edge.net.idle_clients import IdleClients
from edge.net.intake import Intake
from edge.net.later import Later
from edge.net.pool import Pool
from edge.net.probes import Probe
from edge.net.pushed_routes import PushedRoutes
from edge.net.read_budget import ReadBudget
from edge.net.reconnects import Reconnect
from edge.net.resolver import Resolver
from edge.net.sweep import Sweep
from edge.rules.admission import Request
from edge.rules.answers import Pages
from edge.rules.exchange_records import Outcome
from edge.rules.route_table import RouteTable
from edge.rules.settings import LimitSettings, RetrySettings, Settings, TimeoutSettings
from edge.rules.slot_shares import SlotLimits
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


@dataclass(frozen=True, slots=True)
class Usual:
    """The settings that every request looks at. Here that takes 20 ns; a model of pydantic answers in 80."""

    deadline: float
    first_byte: float
    keep_alive: float
    requests_per_connection: int
    slots: SlotLimits
    "Of each environment."
    may_repeat: bool
    "Whether a request gets more than one attempt at all."
    least_body: int
    "Bytes of a request body that must come within each `timeouts.body`."

    @classmethod
    def of(cls, settings: Settings) -> "Usual":
        """As these settings say."""
        timeouts, limits = settings.timeouts, settings.limits
        return cls(
            timeouts.deadline,
            timeouts.first_byte,
            timeouts.keep_alive,
            limits.requests_per_connection,
            SlotLimits.of(limits.in_flight_per_environment, limits.slots_per_client),
            settings.retries.attempts > 1,
            max(1, int(limits.body_rate * timeouts.body)),
        )


@dataclass(slots=True, kw_only=True)
class Services:
    """One worker's collaborators, by what they are for."""

    settings: Settings
    timeouts: TimeoutSettings
    limits: LimitSettings
    usual: Usual
    retries: RetrySettings
    loop: asyncio.AbstractEventLoop
    clock: Callable[[], float]
    rand: Callable[[], float]
    next_id: Callable[[], bytes]
    "A new X-Request-Id."
    intake: Intake
    resolver: Resolver
    pushed: PushedRoutes
    "What `resolver` asks when routes come from a file."
    table: RouteTable
    pool: Pool
    sweep: Sweep
    later: Later
    hangups: Hangups
    reading: ReadBudget
    buffers: Buffers
    entrance: Entrance
    idle_clients: IdleClients
    pages: Pages
    crowd: Sequence[float]
    observe: Callable[[Outcome, Request | None], None]
    "Told of every finished exchange, and of the request if there was one."
    edge_line: bytes
    "`X-Styx-Edge`, ready to be sent."
    probing: set[Probe] = field(default_factory=set)
    "Probes on their way."
    most_probes: int = 100
    "So many at once. What is due beyond it waits for another request."
    turned_away_for: float = 0.5
    """Seconds for which a connection that there was no room for is read: long enough for it to read one answer."""
    reconnecting: dict[Standing, Reconnect] = field(default_factory=dict)
    "Backends that are down, and who connects to them."
    draining: bool = False
    "Every answer is the last one of its connection."
    counts: Counts = field(default_factory=Counts)
