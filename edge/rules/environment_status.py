"""Selects the environments that the status page shows, and describes them. Pure.

There may be 10,000 environments: `EnvironmentRanking` looks at them in batches, every few seconds, and chooses
those in trouble and the busiest. Only these are described each second.
"""

import heapq
from collections.abc import Container, Sequence
from typing import Final

from edge.rules.balancing.drains import Drains
from edge.rules.balancing.environments import Environment
from edge.rules.balancing.picker import bias_table
from edge.rules.environment_status_records import ContainerStatus, EnvironmentStatus, FailureCount
from edge.rules.explain import explained_backends
from edge.rules.explain_records import ExplainedBackend
from edge.rules.routing.routes import Route

MOST_SHOWN: Final = 30
MOST_IN_TROUBLE: Final = 20
"Of the environments that are shown: others must remain in sight."
MOST_CONTAINERS: Final = 40
"Containers of one environment that are shown."
SMOOTHING: Final = 0.4
"Weight of the last interval in the rate that is shown."


EVEN: Final = bias_table(0.0)
"No bias by requests in flight: a share that is shown does not jump with each request."


class EnvironmentRanking:
    """One look at all environments: finds those in trouble, and those with most requests since the look before."""

    def __init__(self, before: "EnvironmentRanking | None" = None, down: Container[int] = ()) -> None:
        """`down`: environments with a backend that is down, by the identity of their object."""
        self._before = {} if before is None else before.requests
        self._down = down
        self.requests: dict[int, int] = {}
        "Requests so far of each environment, by the identity of its object."
        self.total = 0
        self.in_trouble = 0
        self._busiest: list[tuple[int, int, Environment]] = []
        self._troubled: list[tuple[int, int, Environment]] = []

    def look_at(self, environments: Sequence[Environment]) -> None:
        """Look at these environments; a third of a microsecond for each."""
        before, requests, busiest, down = self._before, self.requests, self._busiest, self._down
        least = busiest[0][0] if len(busiest) == MOST_SHOWN else -1
        self.total += len(environments)
        for environment in environments:
            key, count, demerits = id(environment), environment.requests, environment.demerits
            requests[key] = count
            fresh = count - before.get(key, count)
            if demerits.on_probation or demerits.to_connect or demerits.panicking or key in down:
                self.in_trouble += 1
                _keep(self._troubled, (fresh, key, environment), MOST_IN_TROUBLE)
            elif fresh > least:
                _keep(busiest, (fresh, key, environment), MOST_SHOWN)
                least = busiest[0][0] if len(busiest) == MOST_SHOWN else -1

    @property
    def chosen(self) -> list[Environment]:
        """The environments to show."""
        fine = sorted(self._busiest, reverse=True)[: MOST_SHOWN - len(self._troubled)]
        return [environment for _, _, environment in (*self._troubled, *fine)]


def _keep(heap: list[tuple[int, int, Environment]], entry: tuple[int, int, Environment], most: int) -> None:
    if len(heap) < most:
        heapq.heappush(heap, entry)
    elif entry > heap[0]:
        heapq.heapreplace(heap, entry)


def is_in_trouble(environment: Environment) -> bool:
    """Whether a backend of it is down or on probation, as of the last weighing."""
    demerits = environment.demerits
    if demerits.panicking or demerits.on_probation:
        return True
    return any(state.down_since for state in demerits.states.values())


class RequestRates:
    """Smoothed requests per second of the environments that are shown."""

    def __init__(self) -> None:
        self._last: dict[int, tuple[int, float, float]] = {}
        "Requests, time and rate at the last look."

    def rates(self, environments: Sequence[Environment], now: float) -> list[float]:
        """The rate of each; 0 at its first look. What is not shown any more is forgotten."""
        last: dict[int, tuple[int, float, float]] = {}
        for environment in environments:
            count, before = environment.requests, self._last.get(id(environment))
            rate = 0.0
            if before is not None and now > before[1]:
                fresh = max(0, count - before[0]) / (now - before[1])
                rate = before[2] + (SMOOTHING if before[2] else 1.0) * (fresh - before[2])
            last[id(environment)] = (count, now, rate)
        self._last = last
        return [last[id(environment)][2] for environment in environments]


def environment_status(
    hostname: str,
    route: Route,
    *,
    hostnames: int,
    rate: float,
    drains: Drains,
    now: float,
) -> EnvironmentStatus:
    """Describe the environment of this route. Changes nothing: weights are those of its last request."""
    response, environment = route.response, route.environment
    assert response is not None
    assert environment is not None
    backends = explained_backends(route, EVEN, drains, now)
    return EnvironmentStatus(
        site=response.site,
        environment=response.environment,
        hostname=hostname,
        hostnames=hostnames,
        rate=round(rate, 2),
        in_flight=environment.in_flight,
        queued=environment.pending_queue.queued,
        panicking=environment.demerits.panicking,
        maintenance=response.maintenance,
        redirect=response.redirect,
        drained=route.is_drained(drains),
        in_trouble=is_in_trouble(environment),
        containers=[_container(backend) for backend in backends[:MOST_CONTAINERS]],
    )


def _container(backend: ExplainedBackend) -> ContainerStatus:
    return ContainerStatus(
        id=backend.id,
        address=backend.address,
        server=backend.server,
        role=backend.role,
        condition=backend.condition,
        why=_why(backend),
        share=round(backend.probability, 4),
        points=round(sum(demerit.points for demerit in backend.demerits), 3),
        in_flight=backend.in_flight,
        typical_ms=None if backend.typical_ms is None else round(backend.typical_ms, 2),
        error_ratio=round(backend.error_ratio, 4),
        rests_for=round(backend.rests_for, 1),
        next_probe=None if backend.next_probe is None else round(backend.next_probe, 1),
        failures=[FailureCount(f.cause, f.count, round(f.age, 1)) for f in backend.failures],
    )


def _why(backend: ExplainedBackend) -> str:
    """A few words: why it gets less than its share, or ""."""
    if backend.on_probation_for:
        return backend.on_probation_for
    if backend.condition == "down":
        cause = next((f.cause for f in backend.failures), "")
        return cause.replace("_", " ")
    if backend.rests_for > 0.05:
        return "full"
    return backend.demerits[0].cause if backend.demerits else ""
