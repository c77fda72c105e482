"""Transitions of a backend between healthy, probation and down, and their publication to other workers.

    healthy ── clearly slower, or failing more ──► probation ── two good responses, or neighbours alike ──► healthy
       └────── cannot be connected to ──► down ── a connect in the background succeeds ──► probation

`demerits.py` decides when a transition happens; this module changes the state of the backend.
"""

from edge.rules.balancing.backend_state import BackendState, Probation, Why
from edge.rules.balancing.health_events import DOWN, HEALTHY, PROBATION, UP, HealthEvents
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
        return self._shared.take_remembered(*self._environment, endpoint)

    def begin_probation(self, state: BackendState, why: Why, now: float, rand: float) -> None:
        """Put the backend on probation: it is clearly slower, or fails more often, than its neighbours."""
        state.probation = Probation(why, now, rand)
        state.weight = state.recovered_at = 0.0
        self._publish(PROBATION, state, why.value)

    def end_probation(self, state: BackendState, now: float, common: float) -> None:
        """End the probation: its responses were good. Its error ratio is lowered to `common`, that of the median,
        if it was higher."""
        _restore(state, now, common)
        self._publish(HEALTHY, state)

    def drop_probation(self, state: BackendState) -> None:
        """End the probation: its neighbours have become as slow, or fail as often."""
        state.probation = None
        self._publish(HEALTHY, state)

    def mark_down(self, state: BackendState, now: float) -> None:
        """Mark it down: it gets no request until a connect in the background has succeeded."""
        if not state.down_since:
            state.down_since = now
            self._publish(DOWN, state)
        state.weight = 0.0

    def mark_up(self, state: BackendState, now: float, rand: float) -> None:
        """Mark it up: a connect succeeded. It begins on probation if connects to it had failed before."""
        state.down_since = state.until = 0.0
        if state.unreachable:  # otherwise only its server was suspect
            state.unreachable = 0
            self._publish(UP, state)
            state.probation = Probation(Why.BACK, now, rand)
            state.weight = state.recovered_at = 0.0

    def _publish(self, what: str, state: BackendState, why: str = "") -> None:
        self._shared.publish(HealthEvent(what, *self._environment, state.endpoint, why))


def adopt(
    state: BackendState, event: HealthEvent, now: float, rand: float, *, base: float | None, common: float
) -> None:
    """Apply what another worker reported about this backend, if that changes its condition. `base`, `common`: log
    latency and error ratio of its neighbours, with which it starts again when it is reported healthy."""
    if event.kind == DOWN and not state.down_since:
        state.down_since, state.unreachable = now, state.unreachable or 1
    elif event.kind == UP and state.down_since:
        state.down_since = state.until = 0.0
        state.unreachable = 0
        state.probation = Probation(Why.BACK, now, rand)
    elif event.kind == PROBATION and state.is_healthy:
        state.probation = Probation(Why(event.why), now, rand, reported=True)
    elif event.kind == HEALTHY and state.probation is not None:
        _restore(state, now, common)
        state.slow = state.failures = 0
        if base is not None:
            state.mean = min(state.mean, base)


def is_like_the_others(state: BackendState, probation: Probation, common: float) -> bool:
    """Whether its neighbours are by now as slow, or fail as often, as it does. False for a probation that another
    worker reported: this worker has no measurements that could contradict it."""
    if probation.reported:
        return False
    if probation.why is Why.FAILING:
        return state.error <= common + ERROR_MARGIN
    if probation.why is not Why.SLOW:
        return False
    return not state.points_latency and not state.points_errors


def _restore(state: BackendState, now: float, common: float) -> None:
    state.probation = None
    state.error = min(state.error, common)
    state.recovered_at = now
