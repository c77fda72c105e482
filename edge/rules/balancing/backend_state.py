"""What is known of one backend: how quick, how reliable, whether it may be asked at all.

    well ── clearly slower, or failing more, than its neighbours ──► probation ── two good answers ──► well
      └──── cannot be connected to ──► down ── a connect in the background succeeds ──► probation

`Demerits` keeps these records; the picker, the probes and the reconnects act by them.
"""

from enum import Enum
from math import exp

from edge.rules.balancing.server_failures import ServerState
from edge.rules.outcomes import Cause

FIRST_PROBE_AFTER = 1.0
"Seconds from the beginning of a probation to its first probe."
LONGEST_BETWEEN_PROBES = 30.0
GOOD_IN_A_ROW = 2
"Answers that end a probation."
UNPROBED_PATIENCE = 30.0
"Seconds after which a request that cannot be sent twice serves as a probe, for want of others."
SLOW_START = 5.0
"Seconds from a tenth of its share to all of it, after a recovery (HAProxy: slowstart)."
RAMP_BEGINS_AT = 0.1
MANY = 64
"Of more than so many one is drawn without a look at all, for which the last weighing must be recent."

SEVERAL = ""
"Witnesses, instead of one client."

FIRST_CONNECT_AFTER = 0.1
LONGEST_BETWEEN_CONNECTS = 5.0


def connect_wait(tries: int, rand: float) -> float:
    """Seconds until the next connect to a backend that is down, after so many in vain."""
    return min(FIRST_CONNECT_AFTER * 2.0 ** min(tries, 10), LONGEST_BETWEEN_CONNECTS) * (0.75 + rand / 2)


class Why(Enum):
    """What a backend is on probation for."""

    SLOW = "slow"
    FAILING = "failing"
    NEW = "new"
    BACK = "back"


class Probation:
    """A backend that has to prove itself: copies of real requests decide, nobody waits for them."""

    __slots__ = ("due", "good", "heard", "pace", "probing", "since", "strikes", "why")

    def __init__(self, why: Why, now: float, rand: float, *, heard: bool = False) -> None:
        self.why = why
        self.heard = heard
        "Another worker found it; own experience says nothing, and so cannot take it back."
        self.since = now
        self.pace = 0.75 + rand / 2
        "Each learner has its own, so that not all probe at once."
        self.good = 0
        "Good answers in a row."
        self.strikes = 0
        self.probing = False
        "Whether an answer to a probe is awaited."
        self.due = now if why in (Why.NEW, Why.BACK) else now + FIRST_PROBE_AFTER * self.pace
        "The next probe goes then."

    def record_probe(self, now: float) -> None:
        """A probe was sent; if nothing comes of it, the next one is due as late as the first was."""
        self.due = now + FIRST_PROBE_AFTER * self.pace

    def record_good_response(self, now: float) -> bool:
        """A good response, to a probe or to a request; returns whether the probation is passed."""
        self.good += 1
        self.due = now
        return self.good >= GOOD_IN_A_ROW

    def record_bad_response(self, now: float) -> None:
        """A bad response, or none in time: the next probe is due later, each time twice as late."""
        self.good = 0
        self.strikes += 1
        self.due = now + min(FIRST_PROBE_AFTER * 2.0 ** min(self.strikes, 10), LONGEST_BETWEEN_PROBES) * self.pace

    @property
    def overdue_at(self) -> float:
        """When any request serves as a probe. One that is only new has nothing against it."""
        return self.due if self.why in (Why.NEW, Why.BACK) else self.due + UNPROBED_PATIENCE


class BackendState:
    """What is known of one backend, by its id. Outlives its route. Times are of the worker's clock."""

    __slots__ = (
        "answered_at",
        "asleep",
        "cold",
        "down_since",
        "endpoint",
        "error",
        "error_at",
        "failures",
        "heard_at",
        "in_flight",
        "last_error",
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
        "Where it is."
        self.server: ServerState | None = None
        "On which machine; None = the core API does not say."
        self.in_flight = 0
        "Requests it has now, counted from the pick."
        self.waiting = 0
        "Those of them that were sent to their end and have no answer yet."
        self.waiting_since = 0.0
        "Since when there has been one."
        self.heard_at = 0.0
        "When it last answered, whatever it said; 0 = never."
        self.mean = 0.0
        "Mean of ln(seconds to the first answer byte)."
        self.samples = 0
        self.witness: str | None = None
        """By whose requests it seems to be slow or to fail: a client, or SEVERAL; None = it never did."""
        self.slow = 0
        "Slow answers in a row."
        self.answered_at = 0.0
        "When the last of them was taken."
        self.error = 0.0
        "Ratio of failed answers, 0 to 1, as of `error_at`."
        self.error_at = 0.0
        self.last_error: Cause | None = None
        self.failures = 0
        "Failed answers in a row."
        self.unreachable = 0
        "Failed connects in a row."
        self.until = 0.0
        "Rests until then: unreachable, or full with a Retry-After. Of one that is down: the next connect."
        self.down_since = 0.0
        "Since when it has been down; 0 = it is not."
        self.probation: Probation | None = None
        self.recovered_at = 0.0
        "From then on its share grows; 0 = it is whole."
        self.asleep = False
        "The core API says so: its first answer may take long."
        self.cold = False
        "Asleep, or silent for so long that it may be, as of the last weighing."
        self.silent = False
        "It has a request for longer than it ever needs, and nothing was heard, as of the last weighing."
        self.weight = 1.0
        self.points_latency = 0.0
        self.points_errors = 0.0

    def forget(self) -> None:
        """What was learned is out of date. It stays where it is, keeps what it has in hand, is as cold as it was,
        and down until a connect shows otherwise."""
        self.mean = self.error = self.error_at = self.answered_at = 0.0
        self.samples = self.slow = self.failures = 0
        self.last_error = self.probation = None
        self.recovered_at = self.points_latency = self.points_errors = 0.0
        self.silent = False
        self.weight = 0.0 if self.down_since else 1.0

    @property
    def typical(self) -> float:
        """Geometric mean time to the first answer byte, seconds."""
        return exp(self.mean)

    @property
    def points(self) -> float:
        """Demerits as of the last weighing."""
        return self.points_latency + self.points_errors

    @property
    def is_well(self) -> bool:
        """Neither down nor on probation."""
        return not self.down_since and self.probation is None
