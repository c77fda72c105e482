"""What every connection of one worker shares. Built in `run/worker.py` and nowhere else."""

import asyncio
from collections.abc import Callable

from edge.net.balancer import Balancer
from edge.net.buffers import Buffers
from edge.net.entrance import Entrance
from edge.net.hangups import Hangups
from edge.net.idle_clients import IdleClients
from edge.net.intake import Intake
from edge.net.later import Later
from edge.net.pool import Pool
from edge.net.pushed_routes import PushedRoutes
from edge.net.read_budget import ReadBudget
from edge.net.resolver import Resolver
from edge.net.sweep import Sweep
from edge.rules.admission import Request
from edge.rules.answers import Pages
from edge.rules.exchange_records import Outcome
from edge.rules.route_table import RouteTable
from edge.rules.settings import Settings
from edge.rules.slot_shares import SlotLimits


class Counts:
    """Numbers of one worker that no other class keeps. Rows of `admin/metrics_table.py` read them."""

    __slots__ = (
        "accepted",
        "connections",
        "exchanges",
        "refused",
        "route_hits",
        "route_misses",
        "route_stale",
        "unknown_hits",
    )

    def __init__(self) -> None:
        self.connections = 0
        self.accepted = 0
        self.refused = 0
        self.exchanges = 0
        "Requests in flight now."
        self.route_hits = 0
        self.route_stale = 0
        self.route_misses = 0
        self.unknown_hits = 0


class Usual:
    """The settings that every request looks at. Here that takes 20 ns; a model of pydantic answers in 80."""

    __slots__ = (
        "deadline",
        "first_byte",
        "keep_alive",
        "least_body",
        "may_repeat",
        "requests_per_connection",
        "slots",
    )

    def __init__(self, settings: Settings) -> None:
        timeouts, limits = settings.timeouts, settings.limits
        self.deadline: float = timeouts.deadline
        self.first_byte: float = timeouts.first_byte
        self.keep_alive: float = timeouts.keep_alive
        self.requests_per_connection: int = limits.requests_per_connection
        self.slots = SlotLimits.of(limits.in_flight_per_environment, limits.slots_per_client)
        "Of each environment."
        self.may_repeat = settings.retries.attempts > 1
        "Whether a request gets more than one attempt at all."
        self.least_body = max(1, int(limits.body_rate * timeouts.body))
        "Bytes of a request body that must come within each `timeouts.body`."


class Services:
    """One worker's collaborators, by what they are for."""

    __slots__ = (
        "balancer",
        "buffers",
        "clock",
        "counts",
        "draining",
        "edge_line",
        "entrance",
        "hangups",
        "idle_clients",
        "intake",
        "later",
        "limits",
        "loop",
        "next_id",
        "observe",
        "pages",
        "pool",
        "pushed",
        "reading",
        "resolver",
        "retries",
        "settings",
        "sweep",
        "table",
        "timeouts",
        "turned_away_for",
        "usual",
    )

    def __init__(
        self,
        settings: Settings,
        *,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
        next_id: Callable[[], bytes],
        intake: Intake,
        resolver: Resolver,
        pushed: PushedRoutes,
        table: RouteTable,
        pool: Pool,
        balancer: Balancer,
        sweep: Sweep,
        later: Later,
        hangups: Hangups,
        reading: ReadBudget,
        buffers: Buffers,
        entrance: Entrance,
        idle_clients: IdleClients,
        pages: Pages,
        observe: Callable[[Outcome, Request | None], None],
        edge_line: bytes,
    ) -> None:
        """`next_id` makes an X-Request-Id; `resolver` asks `pushed` when routes are from a file; `observe` gets
        every finished exchange, and its request if there was one; `edge_line` is X-Styx-Edge, ready to be sent."""
        self.reconfigure(settings)
        self.loop = loop
        self.clock = clock
        self.next_id = next_id
        self.intake = intake
        self.resolver = resolver
        self.pushed = pushed
        self.table = table
        self.pool = pool
        self.balancer = balancer
        self.sweep = sweep
        self.later = later
        self.hangups = hangups
        self.reading = reading
        self.buffers = buffers
        self.entrance = entrance
        self.idle_clients = idle_clients
        self.pages = pages
        self.observe = observe
        self.edge_line = edge_line
        self.turned_away_for = 0.5
        "Seconds for which a connection that is turned away is read: long enough for it to read its response."
        self.draining = False  # whether each response is the last one of its connection
        self.counts = Counts()

    def reconfigure(self, settings: Settings) -> None:
        """Go on by these settings."""
        self.settings = settings
        self.timeouts = settings.timeouts
        self.limits = settings.limits
        self.retries = settings.retries
        self.usual = Usual(settings)
