"""The state of one backend: how quick and how reliable it is, and whether it may get requests.

    healthy ── clearly slower, or failing more, than its neighbours ──► probation ── two good responses ──► healthy
       └────── cannot be connected to ──► down ── a connect in the background succeeds ──► probation

`Demerits` keeps these records; the picker, the shadow probes and the connect checks use them.
"""

import re
from enum import Enum
from math import exp
from typing import Final

from edge.rules.balancing.server_failures import ServerState
from edge.rules.http.hop_by_hop import later_lines
from edge.rules.outcomes import Cause
from edge.rules.routing.route_response import Backend

_UNPRINTABLE: Final = re.compile(r"[^\x21-\x7e]")
"Characters of the core API that must not get into a line of a head."
FIRST_PROBE_AFTER: Final = 1.0
"Seconds from the beginning of a probation to its first probe."
LONGEST_BETWEEN_PROBES: Final = 30.0
"Seconds."
GOOD_IN_A_ROW: Final = 2
"Good responses in a row that end a probation."
UNPROBED_TIMEOUT: Final = 30.0
"Seconds after which a request that cannot be sent twice serves as a probe, because no other has come."
SLOW_START: Final = 5.0
"Seconds from a tenth of its share to all of it, after a recovery (HAProxy: slowstart)."
SLOW_START_FROM: Final = 0.1
"Part of its share that it begins with."
MANY: Final = 64
"""Backends of an environment beyond which one is drawn without a scan of all, for which the last weighing must be
recent."""

SEVERAL_CLIENTS: Final = ""
"Value of `witness` for several clients instead of one."

FIRST_CONNECT_AFTER: Final = 0.1
LONGEST_BETWEEN_CONNECTS: Final = 5.0
"Seconds."


def connect_wait(tries: int, rand: float) -> float:
    """Seconds until the next connect to a backend that is down, after `tries` failed ones."""
    return min(FIRST_CONNECT_AFTER * 2.0 ** min(tries, 10), LONGEST_BETWEEN_CONNECTS) * (0.75 + rand / 2)


class Why(Enum):
    """The reason of a probation."""

    SLOW = "slow"
    FAILING = "failing"
    NEW = "new"
    BACK = "back"


class Probation:
    """The probation of one backend: copies of real requests (shadow probes) decide how it ends; no client waits for
    them."""

    __slots__ = ("due", "good", "pace", "probing", "reported", "since", "strikes", "why")

    def __init__(self, why: Why, now: float, rand: float, *, reported: bool = False) -> None:
        self.why = why
        self.reported = reported
        "Whether another worker reported it: this worker has no measurements that could take it back."
        self.since = now
        self.pace = 0.75 + rand / 2
        "Factor on the intervals: each worker has its own, so that they do not probe at the same time."
        self.good = 0
        "Good responses in a row."
        self.strikes = 0
        "Bad responses; each doubles the interval between probes."
        self.probing = False
        "Whether a response to a probe is awaited."
        self.due = now if why in (Why.NEW, Why.BACK) else now + FIRST_PROBE_AFTER * self.pace
        "Time of the next probe."

    def record_probe(self, now: float) -> None:
        """Record that a probe was sent. Without a result, the next one is due after the first interval again."""
        self.due = now + FIRST_PROBE_AFTER * self.pace

    def record_good_response(self, now: float) -> bool:
        """Record a good response, to a probe or to a request; returns whether the probation is passed."""
        self.good += 1
        self.due = now
        return self.good >= GOOD_IN_A_ROW

    def record_bad_response(self, now: float) -> None:
        """Record a bad response, or a timeout: the interval until the next probe doubles."""
        self.good = 0
        self.strikes += 1
        self.due = now + min(FIRST_PROBE_AFTER * 2.0 ** min(self.strikes, 10), LONGEST_BETWEEN_PROBES) * self.pace

    @property
    def overdue_at(self) -> float:
        """Time from which any request serves as a probe. For a backend that is only new or back, that is when the
        probe is due: nothing is known against it."""
        return self.due if self.why in (Why.NEW, Why.BACK) else self.due + UNPROBED_TIMEOUT


class BackendState:
    """The state of one backend, by its id. It outlives the route. Times are of the worker's clock."""

    __slots__ = (
        "asleep",
        "cold",
        "down_since",
        "endpoint",
        "error",
        "error_at",
        "failed_attempts",
        "failures",
        "in_flight",
        "last_error",
        "last_event_at",
        "last_response_at",
        "mean",
        "points_errors",
        "points_latency",
        "probation",
        "recovered_at",
        "samples",
        "server",
        "silent",
        "slow",
        "unreachable",
        "until",
        "waiting",
        "waiting_since",
        "weight",
        "witness",
    )

    def __init__(self) -> None:
        self.endpoint = ""
        "Where it is: id, address and port together."
        self.server: ServerState | None = None
        "The server it runs on; None = the core API does not name it."
        self.in_flight = 0
        "Requests in flight, counted from the pick."
        self.waiting = 0
        "Requests in flight that were sent completely and have no response yet."
        self.waiting_since = 0.0
        "Time since which there has been such a request."
        self.last_event_at = 0.0
        "Time of the last response, good or bad; 0 = never."
        self.mean = 0.0
        "Mean of ln(seconds to the first byte of the response)."
        self.samples = 0
        self.witness: str | None = None
        """The client whose requests were slow or failed, or SEVERAL_CLIENTS; None = none were."""
        self.slow = 0
        "Slow responses in a row."
        self.last_response_at = 0.0
        "Time of the last measured response."
        self.error = 0.0
        "Ratio of failed responses, 0 to 1, as of `error_at`."
        self.error_at = 0.0
        self.last_error: Cause | None = None
        self.failed_attempts: dict[Cause, tuple[int, float]] | None = None
        """Failed attempts by cause: how many, and when the last one was, whatever they cost. None = there was none.
        For explanations only."""
        self.failures = 0
        "Failed responses in a row."
        self.unreachable = 0
        "Failed connects in a row."
        self.until = 0.0
        "It rests until then: unreachable, or full with a Retry-After. If it is down: time of the next connect."
        self.down_since = 0.0
        "Time since which it has been down; 0 = it is not."
        self.probation: Probation | None = None
        self.recovered_at = 0.0
        "Time of its recovery, from which its share grows; 0 = it has its whole share."
        self.asleep = False
        "Whether the core API says that it sleeps: its first response may take long."
        self.cold = False
        "Whether it is asleep, or has been idle for so long that it may be, as of the last weighing."
        self.silent = False
        """Whether a request has waited for longer than any response takes, and nothing came, as of the last
        weighing."""
        self.weight = 1.0
        self.points_latency = 0.0
        self.points_errors = 0.0

    def note_failed_attempt(self, cause: Cause, now: float) -> None:
        """Record a failed attempt, for explanations."""
        if self.failed_attempts is None:
            self.failed_attempts = {}
        count, _ = self.failed_attempts.get(cause, (0, now))
        self.failed_attempts[cause] = count + 1, now

    def forget(self) -> None:
        """Forget what was learned: it is out of date. Its endpoint, its requests in flight, `asleep` and `cold`
        stay, and it stays down until a connect succeeds."""
        self.mean = self.error = self.error_at = self.last_response_at = 0.0
        self.samples = self.slow = self.failures = 0
        self.last_error = self.probation = self.failed_attempts = None
        self.recovered_at = self.points_latency = self.points_errors = 0.0
        self.silent = False
        self.weight = 0.0 if self.down_since else 1.0

    @property
    def typical(self) -> float:
        """Geometric mean of the seconds to the first byte of the response."""
        return exp(self.mean)

    @property
    def points(self) -> float:
        """Demerits as of the last weighing."""
        return self.points_latency + self.points_errors

    @property
    def is_healthy(self) -> bool:
        """Neither down nor on probation."""
        return not self.down_since and self.probation is None


def endpoint_of(backend: Backend) -> str:
    """Id, address and port of a backend, and whether TLS is spoken there."""
    return f"{backend.id}@{'tls:' if backend.tls else ''}{backend.endpoint}"


class Candidate:
    """A backend of a route together with its state: what is drawn."""

    __slots__ = (
        "backend",
        "backend_id",
        "endpoint",
        "first_lines",
        "head_line",
        "logged_attempt",
        "logged_members",
        "site",
        "state",
    )

    def __init__(self, backend: Backend, state: BackendState, site: str = "") -> None:
        self.backend = backend
        self.site = site
        "Whose it is."
        self.backend_id = backend.id
        self.state = state
        self.endpoint = endpoint_of(backend)
        """Id, address and port, and whether TLS is spoken there. Idle connections, and the attempts of an exchange,
        are recorded by endpoint: a container that moved is a new one."""
        self.head_line = b"X-Styx-Backend: %b\r\n" % _UNPRINTABLE.sub("?", backend.id).encode("ascii")
        self.first_lines = later_lines(self.head_line, 1)
        "The last lines of the head of a request whose first attempt goes to this backend."
        self.logged_members = self.logged_attempt = ""
        "What `rules/log/usual_lines.py` has made of its id and its environment; empty = nothing yet."

    def __repr__(self) -> str:
        return f"<{self.endpoint}>"
