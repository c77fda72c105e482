"""How a backend moves between healthy, probation and down, and how other workers learn of it.

    healthy ── clearly slower, or failing more ──► probation ── two good responses, or neighbours alike ──► healthy
       └────── cannot be connected to ──► down ── a connect in the background succeeds ──► probation

What leads to a move is decided in `demerits.py`; what a move changes in the backend's state is here.
"""

from edge.rules.balancing.backend_state import BackendState, Probation, Why
from edge.rules.balancing.health_events import DOWN, PROBATION, UP, WELL, HealthEvents
from edge.rules.balancing.health_records import HealthEvent
from edge.rules.balancing.scoring import ERROR_MARGIN


class HealthTransitions:
    """The moves of one environment's backends. Each is published once, by the worker that found it."""

    __slots__ = ("_environment", "_shared")

    def __init__(self, environment: tuple[str, str], shared: HealthEvents) -> None:
        """`environment`: site and name."""
        self._environment = environment
        self._shared = shared

    def published(self, endpoint: str) -> tuple[HealthEvent, float] | None:
        """What another worker has found about a backend there, and when, before it was known here."""
        return self._shared.recall(*self._environment, endpoint)

    def begin_probation(self, standing: BackendState, why: Why, now: float, rand: float) -> None:
        """It is clearly slower, or fails more, than its neighbours."""
        standing.probation = Probation(why, now, rand)
        standing.weight = standing.recovered_at = 0.0
        self._publish(PROBATION, standing, why.value)

    def end_probation(self, standing: BackendState, now: float, common: float) -> None:
        """It has proved itself. `common`: the error ratio of the median, beyond which its errors are forgiven."""
        _acquit(standing, now, common)
        self._publish(WELL, standing)

    def drop_probation(self, standing: BackendState) -> None:
        """Its neighbours have become as bad as it: there is nothing to prove."""
        standing.probation = None
        self._publish(WELL, standing)

    def mark_down(self, standing: BackendState, now: float) -> None:
        """It gets no request until a connection could be made in the background."""
        if not standing.down_since:
            standing.down_since = now
            self._publish(DOWN, standing)
        standing.weight = 0.0

    def mark_up(self, standing: BackendState, now: float, rand: float) -> None:
        """A connection could be made to one that was down."""
        standing.down_since = standing.until = 0.0
        if standing.unreachable:  # else its server was suspect, and it had done nothing
            standing.unreachable = 0
            self._publish(UP, standing)
            standing.probation = Probation(Why.BACK, now, rand)
            standing.weight = standing.recovered_at = 0.0

    def _publish(self, what: str, standing: BackendState, why: str = "") -> None:
        self._shared.tell(HealthEvent(what, *self._environment, standing.endpoint, why))


def adopt(
    standing: BackendState, evidence: HealthEvent, now: float, rand: float, *, base: float | None, common: float
) -> None:
    """Take over what another worker found about this backend, if it is news. `base`, `common`: log latency and
    error ratio of its neighbours, from which it starts again when it is healthy."""
    if evidence.what == DOWN and not standing.down_since:
        standing.down_since, standing.unreachable = now, standing.unreachable or 1
    elif evidence.what == UP and standing.down_since:
        standing.down_since = standing.until = 0.0
        standing.unreachable = 0
        standing.probation = Probation(Why.BACK, now, rand)
    elif evidence.what == PROBATION and standing.is_well:
        standing.probation = Probation(Why(evidence.why), now, rand, heard=True)
    elif evidence.what == WELL and standing.probation is not None:
        _acquit(standing, now, common)
        standing.slow = standing.failures = 0
        if base is not None:
            standing.mean = min(standing.mean, base)


def is_like_the_others(standing: BackendState, probation: Probation, common: float) -> bool:
    """Whether its neighbours have become as slow, or fail as much, as it was found to."""
    if probation.heard:
        return False
    if probation.why is Why.FAILING:
        return standing.error <= common + ERROR_MARGIN
    if probation.why is not Why.SLOW:
        return False
    return not standing.points_latency and not standing.points_errors


def _acquit(standing: BackendState, now: float, common: float) -> None:
    standing.probation = None
    standing.error = min(standing.error, common)
    standing.recovered_at = now
