"""Transitions of a backend between healthy, probation and down, and their publication to other workers.

    healthy ── clearly slower, or failing more ──► probation ── two good responses, or neighbours alike ──► healthy
       └────── cannot be connected to ──► down ── a connect in the background succeeds ──► probation

`demerits.py` decides when a transition happens; this module changes the state of the backend.
"""

from edge.rules.balancing.backend_state import BackendState, Probation, Why
from edge.rules.balancing.health_events import DOWN, PROBATION, UP, WELL, HealthEvents
from edge.rules.balancing.health_records import HealthEvent
from edge.rules.balancing.scoring import ERROR_MARGIN


class HealthTransitions:
    """The transitions of one environment's backends. Each is published once, by the worker that found it."""

    __slots__ = ("_environment", "_shared")

    def __init__(self, environment: tuple[str, str], shared: HealthEvents) -> None:
        """`environment`: site and name."""
        self._environment = environment
        self._shared = shared

    def published(self, endpoint: str) -> tuple[HealthEvent, float] | None:
        """Return what another worker reported about the backend at this endpoint before it was known here, and
        when; None = nothing. The report is consumed."""
        return self._shared.recall(*self._environment, endpoint)

    def begin_probation(self, standing: BackendState, why: Why, now: float, rand: float) -> None:
        """Put the backend on probation: it is clearly slower, or fails more often, than its neighbours."""
        standing.probation = Probation(why, now, rand)
        standing.weight = standing.recovered_at = 0.0
        self._publish(PROBATION, standing, why.value)

    def end_probation(self, standing: BackendState, now: float, common: float) -> None:
        """End the probation: its responses were good. Its error ratio is lowered to `common`, that of the median,
        if it was higher."""
        _restore(standing, now, common)
        self._publish(WELL, standing)

    def drop_probation(self, standing: BackendState) -> None:
        """End the probation: its neighbours have become as slow, or fail as often."""
        standing.probation = None
        self._publish(WELL, standing)

    def mark_down(self, standing: BackendState, now: float) -> None:
        """Mark it down: it gets no request until a connect in the background has succeeded."""
        if not standing.down_since:
            standing.down_since = now
            self._publish(DOWN, standing)
        standing.weight = 0.0

    def mark_up(self, standing: BackendState, now: float, rand: float) -> None:
        """Mark it up: a connect succeeded. It begins on probation if connects to it had failed before."""
        standing.down_since = standing.until = 0.0
        if standing.unreachable:  # otherwise only its server was suspect
            standing.unreachable = 0
            self._publish(UP, standing)
            standing.probation = Probation(Why.BACK, now, rand)
            standing.weight = standing.recovered_at = 0.0

    def _publish(self, what: str, standing: BackendState, why: str = "") -> None:
        self._shared.tell(HealthEvent(what, *self._environment, standing.endpoint, why))


def adopt(
    standing: BackendState, event: HealthEvent, now: float, rand: float, *, base: float | None, common: float
) -> None:
    """Apply what another worker reported about this backend, if that changes its condition. `base`, `common`: log
    latency and error ratio of its neighbours, with which it starts again when it is reported healthy."""
    if event.what == DOWN and not standing.down_since:
        standing.down_since, standing.unreachable = now, standing.unreachable or 1
    elif event.what == UP and standing.down_since:
        standing.down_since = standing.until = 0.0
        standing.unreachable = 0
        standing.probation = Probation(Why.BACK, now, rand)
    elif event.what == PROBATION and standing.is_healthy:
        standing.probation = Probation(Why(event.why), now, rand, reported=True)
    elif event.what == WELL and standing.probation is not None:
        _restore(standing, now, common)
        standing.slow = standing.failures = 0
        if base is not None:
            standing.mean = min(standing.mean, base)


def is_like_the_others(standing: BackendState, probation: Probation, common: float) -> bool:
    """Whether its neighbours are by now as slow, or fail as often, as it does. False for a probation that another
    worker reported: this worker has no measurements that could contradict it."""
    if probation.reported:
        return False
    if probation.why is Why.FAILING:
        return standing.error <= common + ERROR_MARGIN
    if probation.why is not Why.SLOW:
        return False
    return not standing.points_latency and not standing.points_errors


def _restore(standing: BackendState, now: float, common: float) -> None:
    standing.probation = None
    standing.error = min(standing.error, common)
    standing.recovered_at = now
