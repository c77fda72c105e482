"""Explains how a request for a hostname would be routed: its route, and the picker's view of each backend."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from edge.rules.balancing.backend_state import BackendState
from edge.rules.balancing.picker import effective_weight, pick
from edge.rules.explain_records import ExplainedBackend, ExplainedDemerit, ExplainedRoute, ListedRoute, RoutePage
from edge.rules.outcomes import Cause
from edge.rules.routing.route_table import RouteTable
from edge.rules.routing.routes import Candidate, Route

PAGE_COST = 20_000
"Most cost of one page of the list, in routes of the table: 10 ms."
DECODING_COST = 30
"Cost of a compact route, which must be decoded, in routes of the table."

Compact = Callable[[int, str], Iterable[tuple[str, Route | None]]]
"""Iterates the compact routes from a position on, for a site ("" = any): hostname and route. None = it belongs to
another site, which shows without decoding it."""


def explain(hostname: str, route: Route, bias: Sequence[float], now: float) -> ExplainedRoute:
    """All that is known of a hostname at `now`. `bias`: the picker's table of weights by requests in flight
    (`demerits.active_request_bias`)."""
    response, environment = route.answer, route.environment
    if environment is not None:
        environment.book.weigh(route.standings, now)
    return ExplainedRoute(
        hostname=hostname,
        known=response is not None,
        freshness=route.freshness(now).value,
        age=now - route.taken_at,
        source=route.source.value,
        fresh_for=max(0.0, route.fresh_until - now),
        next_lookup=max(0.0, route.renew_at - now, route.no_lookup_before - now),
        usable_for=max(0.0, route.gone_at - now),
        last_error=route.last_error,
        site=response.site if response else "",
        environment=response.environment if response else "",
        generation=response.generation if response else 0,
        maintenance=response.maintenance if response else False,
        redirect=response.redirect if response else None,
        backends=[*_backends(route, bias, now), *_draining(route)],
    )


@dataclass(frozen=True, slots=True)
class RouteFilter:
    """Which routes to list; "" = any."""

    site: str = ""
    freshness: str = ""

    def wants(self, route: Route, now: float) -> bool:
        if self.site and (route.answer is None or route.answer.site != self.site):
            return False
        return not self.freshness or route.freshness(now).value == self.freshness


def list_routes(
    table: RouteTable,
    compact: Compact,
    wanted: RouteFilter,
    *,
    start: int,
    most: int,
    now: float,
    looks: int = PAGE_COST,
) -> RoutePage:
    """A page of at most `most` wanted routes: of the table first, then the compact ones. It ends early when its
    cost reaches `looks`, because requests wait meanwhile."""
    ready = [(hostname, table.peek(hostname)) for hostname in table.hostnames(start, looks)]
    found: list[ListedRoute] = []
    position, cost = start, 0
    for hostname, route in chain(ready, compact(max(0, start - len(table)), wanted.site)):
        if len(found) == most or cost >= looks:
            return RoutePage(found, position)
        position += 1
        cost += 1 if position <= len(table) or route is None else DECODING_COST
        if route is not None and wanted.wants(route, now):
            found.append(_listed(hostname, route, now))
    return RoutePage(found, None)


def _listed(hostname: str, route: Route, now: float) -> ListedRoute:
    response = route.answer
    return ListedRoute(
        hostname=hostname,
        site=response.site if response else "",
        environment=response.environment if response else "",
        backends=len(response.backends) if response else 0,
        freshness=route.freshness(now).value,
        age=now - route.taken_at,
        next_lookup=max(0.0, route.renew_at - now, route.no_lookup_before - now),
        source=route.source.value,
        last_error=route.last_error,
    )


def _backends(route: Route, bias: Sequence[float], now: float) -> list[ExplainedBackend]:
    """The backends, each with its probability in a first attempt: 0 for standby ones while an active one can be
    drawn."""
    chances: dict[Candidate, float] = {}
    for group in (route.active, route.standby):
        available = [c for c in group if c.standing.until <= now and c.standing.weight]
        total = sum(effective_weight(c.standing, bias) for c in available)
        if total:
            chances = {c: effective_weight(c.standing, bias) / total for c in available}
            break
    else:  # no backend is healthy and available: the picker has an order of last resorts
        last_resort = pick(route, (), last=False, demerited=1, now=now, rand=0.5, bias=bias)
        chances = {last_resort: 1.0} if last_resort is not None else {}
    to_connect = route.environment.book.to_connect if route.environment is not None else ()
    candidates = (*route.active, *route.standby)
    return [_backend(c, chances.get(c, 0.0), now, when_asked=c.standing in to_connect) for c in candidates]


def _backend(candidate: Candidate, probability: float, now: float, *, when_asked: bool) -> ExplainedBackend:
    """`when_asked`: it is down, and no connect check is made until its site gets a request."""
    backend, standing = candidate.backend, candidate.standing
    return ExplainedBackend(
        id=backend.id,
        address=backend.endpoint,
        server=backend.server,
        role=backend.role,
        state=backend.state,
        demerits=explain_demerits(standing, now),
        weight=standing.weight,
        probability=probability,
        in_flight=standing.in_flight,
        rests_for=0.0 if standing.down_since else max(0.0, standing.until - now),
        **_condition(standing, now, when_asked=when_asked),
        samples=standing.samples,
        typical_ms=standing.typical * 1000.0 if standing.samples else None,
        error_ratio=standing.error,
    )


def _condition(standing: BackendState, now: float, *, when_asked: bool) -> dict[str, Any]:
    """The condition of a backend, since when it is in it, and when it is probed next, as fields of
    ExplainedBackend.
    """
    probation, condition, since, tried_at = standing.probation, "healthy", 0.0, 0.0
    if standing.down_since:
        condition, since, tried_at = "down", standing.down_since, 0.0 if when_asked else standing.until
    elif probation is not None:
        condition, since, tried_at = "probation", probation.since, probation.due
    elif standing.cold:
        condition, since = "cold", standing.heard_at
    elif standing.silent:
        condition, since = "silent", max(standing.heard_at, standing.waiting_since)
    elif standing.recovered_at:
        condition, since = "recovering", standing.recovered_at
    return {
        "condition": condition,
        "condition_for": now - since if since else None,
        "on_probation_for": probation.why.value if probation is not None else "",
        "next_probe": max(0.0, tried_at - now) if tried_at else None,
    }


def _draining(route: Route) -> list[ExplainedBackend]:
    """The draining backends: listed, but never drawn."""
    backends = route.answer.backends if route.answer else ()
    return [
        ExplainedBackend(
            id=b.id,
            address=f"{b.address}:{b.port}",
            server=b.server,
            role=b.role,
            state=b.state,
            demerits=[],
            weight=0.0,
            probability=0.0,
            in_flight=0,
            rests_for=0.0,
            condition="draining",
            condition_for=None,
            on_probation_for="",
            next_probe=None,
            samples=0,
            typical_ms=None,
            error_ratio=0.0,
        )
        for b in backends
        if b.state == "draining"
    ]


def explain_demerits(standing: BackendState, now: float) -> list[ExplainedDemerit]:
    """The demerits of a backend, the heaviest first. They must have been weighed at `now`."""
    demerits = []
    if standing.points_latency:
        age = now - standing.answered_at
        demerits.append(ExplainedDemerit("slower than its neighbours", standing.points_latency, age))
    if standing.points_errors:
        cause = standing.last_error or Cause.GATEWAY_ERROR
        demerits.append(ExplainedDemerit(cause.value, standing.points_errors, now - standing.error_at))
    return sorted(demerits, key=lambda d: -d.points)
