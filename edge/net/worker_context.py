"""The objects and settings that all connections of one worker share. Built only in `run/context_setup.py`."""

from collections.abc import Callable

from edge.net.accept.connection_limit import ConnectionLimiter
from edge.net.balancing.balancer import Balancer
from edge.net.balancing.shadow_probe import ShadowProbes
from edge.net.deadline_sweep import DeadlineSweep
from edge.net.deferred_queue import DeferredQueue
from edge.net.h1.head_reader import HeadReader
from edge.net.h2.h2_services import H2Services
from edge.net.limits.buffer_limit import BufferLimit
from edge.net.limits.hangup_watch import HangupWatch
from edge.net.limits.idle_connections import IdleConnections
from edge.net.request.request_ids import RequestIds
from edge.net.request.request_tracer import RequestTracer
from edge.net.routing.pushed_routes import PushedRoutes
from edge.net.routing.resolver import RouteResolver
from edge.net.tls.tls_service import TlsService
from edge.net.transport.read_budget import ReadBudget
from edge.rules.exchange_observers import ExchangeCounters, LineLog, OutcomeLog
from edge.rules.http.local_reply import LocalReplies
from edge.rules.limits.slot_shares import SlotLimits
from edge.rules.settings import Settings
from edge.rules.tls.challenge_responses import ChallengeResponses
from edge.rules.traffic.listener_counts import ListenerCounts
from edge.rules.traffic.top_sites import TopSites


class Counts:
    """Counters of one worker that no other class has. Rows of `admin/metrics_table.py` read them."""

    __slots__ = (
        "accepted",
        "connections",
        "exchanges",
        "listeners",
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
        self.listeners: dict[str, ListenerCounts] = {}
        "By address, as in the settings."
        self.route_hits = 0
        self.route_stale = 0
        self.route_misses = 0
        self.unknown_hits = 0

    def of_listener(self, address: str) -> ListenerCounts:
        """The counters of the listener with this address."""
        return self.listeners.setdefault(address, ListenerCounts(address))


class HotSettings:
    """The settings that every request or connection reads. Here a read takes 20 ns, in a pydantic model 80."""

    __slots__ = (
        "between_bytes",
        "deadline",
        "first_byte",
        "head",
        "keep_alive",
        "least_body",
        "may_repeat",
        "requests_per_connection",
        "slots",
        "write_stall",
    )

    def __init__(self, settings: Settings) -> None:
        timeouts, limits = settings.timeouts, settings.limits
        self.deadline: float = timeouts.deadline
        self.between_bytes: float = timeouts.between_bytes
        self.first_byte: float = timeouts.first_byte
        self.head: float = timeouts.head
        self.keep_alive: float = timeouts.keep_alive
        self.write_stall: float = timeouts.write_stall
        self.requests_per_connection: int = limits.requests_per_connection
        self.slots = SlotLimits.of(limits.in_flight_per_environment, limits.slots_per_client)
        "The slots of each environment."
        self.may_repeat = settings.retries.attempts > 1
        "Whether a request may have more than one attempt."
        self.least_body = max(1, int(limits.body_rate * timeouts.body))
        "Bytes of a request body that must arrive within each `timeouts.body`."


class WorkerContext:
    """The collaborators of all connections of one worker."""

    __slots__ = (
        "balancer",
        "buffers",
        "challenges",
        "clock",
        "connection_limiter",
        "counts",
        "counts_sites",
        "deadline_sweep",
        "deferred_queue",
        "draining",
        "edge_line",
        "exchange_counters",
        "h2",
        "hangups",
        "head_reader",
        "hot",
        "idle_clients",
        "limits",
        "line_log",
        "logs_details",
        "loop",
        "outcome_logs",
        "pages",
        "pool",
        "probes",
        "pushed",
        "reading",
        "rejected_linger",
        "request_ids",
        "resolver",
        "retries",
        "settings",
        "table",
        "timeouts",
        "tls",
        "top_sites",
        "tracer",
        "usual_lines",
    )

    def __init__(
        self,
        settings: Settings,
        *,
        request_ids: RequestIds,
        head_reader: HeadReader,
        resolver: RouteResolver,
        pushed: PushedRoutes,
        balancer: Balancer,
        deadline_sweep: DeadlineSweep,
        reading: ReadBudget,
        buffers: BufferLimit,
        connection_limiter: ConnectionLimiter,
        idle_clients: IdleConnections,
        pages: LocalReplies,
        exchange_counters: ExchangeCounters,
        outcome_logs: tuple[OutcomeLog, ...],
        line_log: LineLog | None,
        edge_line: bytes,
    ) -> None:
        """`resolver` asks `pushed` if routes are from a file. `exchange_counters`, `outcome_logs` and `line_log`,
        which is not among them, get each exchange that has ended. `edge_line`: the X-Styx-Edge line, encoded."""
        self.reconfigure(settings)
        self.loop = loop = balancer.loop
        self.clock: Callable[[], float] = balancer.clock
        self.request_ids = request_ids
        self.head_reader = head_reader
        self.resolver = resolver
        self.pushed, self.table = pushed, resolver.table
        self.pool, self.balancer = balancer.pool, balancer
        self.probes = ShadowProbes(balancer)
        self.deadline_sweep, self.deferred_queue = deadline_sweep, DeferredQueue(loop)
        self.hangups = HangupWatch(loop)
        self.reading = reading
        self.buffers = buffers
        self.connection_limiter = connection_limiter
        self.idle_clients, self.pages = idle_clients, pages
        self.exchange_counters, self.outcome_logs = exchange_counters, outcome_logs
        self.line_log, self.usual_lines = line_log, None if line_log is None else line_log.usual_lines
        self.pages, self.edge_line = pages, edge_line
        self.tls: TlsService | None = None  # set when a listener has TLS
        self.challenges = ChallengeResponses() if settings.tls.acme.is_on else None  # proofs for an ACME authority
        self.tracer: RequestTracer | None = None  # set when requests are traced, by `TracedExchange`
        self.rejected_linger = 0.5  # seconds in which the client of a rejected connection can read the response
        self.h2 = H2Services(edge_line)
        self.draining = False  # whether each response is the last one of its connection
        self.counts, self.counts_sites = Counts(), bool(settings.metrics.sites)
        self.logs_details = settings.access_log.needs_details
        self.top_sites = TopSites(self.clock())

    def reconfigure(self, settings: Settings) -> None:
        """Apply these settings from now on."""
        self.settings = settings
        self.timeouts = settings.timeouts
        self.limits = settings.limits
        self.retries = settings.retries
        self.hot = HotSettings(settings)
