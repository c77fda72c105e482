"""The backends of one environment with their demerits: what the tests of demerits and probation play with."""

from collections.abc import Iterable

from edge.rules.balancing.backend_state import BackendState
from edge.rules.balancing.demerits import Demerits
from edge.rules.outcomes import Cause
from edge.rules.settings import DemeritSettings

ERRORS = Cause.GATEWAY_ERROR


class Fleet:
    """The backends of one environment, a book about them, and a clock."""

    def __init__(self, size: int, **settings: float) -> None:
        self.demerits = Demerits(DemeritSettings(**settings))  # type: ignore[arg-type]
        self.all = [self.demerits.state_of(f"b{n}") for n in range(size)]
        self.now = 1000.0

    def answer(self, latencies: Iterable[float], *, times: int = 1) -> None:
        """Each backend answers as often, in turns, 100 ms apart; the weights are kept up to date."""
        latencies = list(latencies)
        for _ in range(times):
            self.now += 0.1
            for state, latency in zip(self.all, latencies, strict=True):
                self.demerits.record_response(state, latency, self.now)
            self.weigh()

    def fail(self, *backends: int, times: int = 1) -> None:
        for _ in range(times):
            self.now += 0.1
            for n in backends:
                self.demerits.record_failure(self.all[n], ERRORS, self.now)
        self.weigh()

    def weigh(self, after: float = 0.0) -> list[float]:
        """The points of each, some seconds later."""
        self.now += after
        self.demerits.weigh(self.all, self.now)
        return [state.points for state in self.all]


def rest(demerits: Demerits, state: BackendState, cause: Cause, *, rand: float = 0.5) -> float:
    demerits.record_unreachable(state, cause, 100.0, rand)
    return state.until - 100.0
