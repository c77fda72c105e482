"""Explains how a request for a hostname would be routed: its route, and the picker's view of each backend."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import msgspec

from edge.rules.balancing.backend_state import BackendState, Candidate
from edge.rules.balancing.drains import Drains
from edge.rules.balancing.picker import effective_weight, pick
from edge.rules.explain_records import (
    ExplainedBackend,
    ExplainedCertificate,
    ExplainedDemerit,
    ExplainedDrain,
    ExplainedRejection,
    ExplainedRoute,
    FailedAttempts,
    FailedLookup,
    ListedRoute,
    RoutePage,
)
from edge.rules.outcomes import Cause
from edge.rules.routing.lookup_failures import LookupState
from edge.rules.routing.route_response import Backend
from edge.rules.routing.route_table import RouteTable
from edge.rules.routing.routes import Route

NO_LOOKUPS = LookupState()
PAGE_COST = 20_000
"Most cost of one page of the list, in routes of the table: 10 ms."
DECODING_COST = 30
"Cost of a compact route, which must be decoded, in routes of the table."

Compact = Callable[[int, str], Iterable[tuple[str, Route | None]]]
"""Iterates the compact routes from a position on, for a site ("" = any): hostname and route. None = it belongs to
another site, which shows without decoding it."""


def explain(
    hostname: str,
    route: Route,
    bias: Sequence[float],
    now: float,
    *,
    lookups: LookupState = NO_LOOKUPS,
    drains: Drains | None = None,
    certificate: ExplainedCertificate | None = None,
) -> ExplainedRoute:
    """All that is known of a hostname at `now`. `bias`: the picker's table of weights by requests in flight
    (`demerits.active_request_bias`). `lookups`: how its lookups fare."""
    response, environment, drains = route.response, route.environment, drains or Drains()
    if environment is not None:
        environment.demerits.weigh(route.states, now)
    return ExplainedRoute(
        hostname=hostname,
        known=response is not None,
        freshness=route.freshness(now).value,
        age=now - route.taken_at,
        source=route.source,
        fresh_for=max(0.0, route.fresh_until - now),
        next_lookup=max(0.0, route.renew_at - now, route.no_lookup_before - now),
        usable_for=max(0.0, route.gone_at - now),
        last_error=route.last_error,
        site=response.site if response else "",
        environment=response.environment if response else "",
        generation=response.generation if response else 0,
        maintenance=response.maintenance if response else False,
        redirect=response.redirect if response else None,
        backends=explained_backends(route, bias, drains, now),
        failed_lookup=_failed_lookup(route, lookups, now),
        looking_up=lookups.is_under_way,
        circuit_open=lookups.circuit_open,
        rejection=_rejection(route, now),
        remarks=list(route.remarks),
        drained=route.is_drained(drains),
        certificate=certificate,
    )


def explain_without_route(
    hostname: str, lookups: LookupState, now: float, certificate: ExplainedCertificate | None = None
) -> ExplainedRoute | None:
    """What is known of a hostname that has no route: how its last lookup failed, that one is under way, or its
    certificate. None = nothing is known."""
    failure = lookups.failure
    if failure is None and not lookups.is_under_way and certificate is None:
        return None
    return ExplainedRoute(
        hostname=hostname,
        known=False,
        freshness="none",
        age=0.0,
        source="",
        fresh_for=0.0,
        next_lookup=lookups.wait,
        usable_for=0.0,
        last_error=None if failure is None else failure.error,
        site="",
        environment="",
        generation=0,
        maintenance=False,
        redirect=None,
        backends=[],
        failed_lookup=None if failure is None else FailedLookup(failure.error, now - failure.at, lookups.wait),
        looking_up=lookups.is_under_way,
        circuit_open=lookups.circuit_open,
        certificate=certificate,
    )


def _failed_lookup(route: Route, lookups: LookupState, now: float) -> FailedLookup | None:
    if route.last_error is None or route.rejected is not None:
        return None
    again_in = max(0.0, route.no_lookup_before - now, lookups.wait)
    return FailedLookup(route.last_error, now - route.failed_at, again_in)


def _rejection(route: Route, now: float) -> ExplainedRejection | None:
    rejected = route.rejected
    if rejected is None:
        return None
    return ExplainedRejection(
        rejected.reason,
        rejected.generation,
        since=now - rejected.since,
        age=now - route.failed_at,
        accepted_in=max(0.0, rejected.accepted_at - now),
    )


@dataclass(frozen=True, slots=True)
class RouteFilter:
    """Which routes to list; "" = any."""

    site: str = ""
    freshness: str = ""

    def wants(self, route: Route, now: float) -> bool:
        if self.site and (route.response is None or route.response.site != self.site):
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
    response = route.response
    return ListedRoute(
        hostname=hostname,
        site=response.site if response else "",
        environment=response.environment if response else "",
        backends=len(response.backends) if response else 0,
        freshness=route.freshness(now).value,
        age=now - route.taken_at,
        next_lookup=max(0.0, route.renew_at - now, route.no_lookup_before - now),
        source=route.source,
        last_error=route.last_error,
    )


def explained_backends(route: Route, bias: Sequence[float], drains: Drains, now: float) -> list[ExplainedBackend]:
    """The backends, each with its probability in a first attempt: 0 for standby ones while an active one can be
    drawn. Those that are drained come last. Changes nothing: weights are as of the last weighing."""
    chances: dict[Candidate, float] = {}
    for group in (route.active, route.standby):
        available = [c for c in group if c.state.until <= now and c.state.weight]
        total = sum(effective_weight(c.state, bias) for c in available)
        if total:
            chances = {c: effective_weight(c.state, bias) / total for c in available}
            break
    else:  # no backend is healthy and available: the picker has an order of last resorts
        last_resort = pick(route, (), last=False, demerited=1, now=now, rand=0.5, bias=bias)
        chances = {last_resort: 1.0} if last_resort is not None else {}
    to_connect = route.environment.demerits.to_connect if route.environment is not None else ()
    drawn = [
        _backend(c.backend, c.state, chances.get(c, 0.0), now, when_asked=c.state in to_connect)
        for c in (*route.active, *route.standby)
    ]
    return [*drawn, *_drained(route, drains, now)]


def _backend(
    backend: Backend, state: BackendState, probability: float, now: float, *, when_asked: bool
) -> ExplainedBackend:
    """`when_asked`: it is down, and no connect check is made until its site gets a request."""
    return ExplainedBackend(
        id=backend.id,
        address=backend.endpoint,
        server=backend.server,
        role=backend.role,
        state=backend.state,
        demerits=explain_demerits(state, now),
        weight=state.weight,
        probability=probability,
        in_flight=state.in_flight,
        rests_for=0.0 if state.down_since else max(0.0, state.until - now),
        **_condition(state, now, when_asked=when_asked),
        samples=state.samples,
        typical_ms=state.typical * 1000.0 if state.samples else None,
        error_ratio=state.error,
        failures=_failures(state, now),
    )


def _failures(state: BackendState, now: float) -> list[FailedAttempts]:
    if state.failed_attempts is None:
        return []
    found = [FailedAttempts(cause.value, count, now - at) for cause, (count, at) in state.failed_attempts.items()]
    return sorted(found, key=lambda failed: failed.age)


def _condition(state: BackendState, now: float, *, when_asked: bool) -> dict[str, Any]:
    """The condition of a backend, since when it is in it, and when it is probed next, as fields of
    ExplainedBackend.
    """
    probation, condition, since, tried_at = state.probation, "healthy", 0.0, 0.0
    if state.down_since:
        condition, since, tried_at = "down", state.down_since, 0.0 if when_asked else state.until
    elif probation is not None:
        condition, since, tried_at = "probation", probation.since, probation.due
    elif state.cold:
        condition, since = "cold", state.last_event_at
    elif state.silent:
        condition, since = "silent", max(state.last_event_at, state.waiting_since)
    elif state.recovered_at:
        condition, since = "recovering", state.recovered_at
    return {
        "condition": condition,
        "condition_for": now - since if since else None,
        "on_probation_for": probation.why.value if probation is not None else "",
        "next_probe": max(0.0, tried_at - now) if tried_at else None,
    }


def _drained(route: Route, drains: Drains, now: float) -> list[ExplainedBackend]:
    """The backends that the core API or an operator drains: listed, with the requests that they still have, but
    never drawn."""
    response, found = route.response, []
    drawn = {candidate.backend.id for candidate in (*route.active, *route.standby)}
    for backend in response.backends if response is not None else ():
        if backend.id in drawn:
            continue
        assert response is not None
        by_operator = drains.of_backend(backend.id, backend.server, response.environment_key)
        known = route.environment.demerits.states.get(backend.id) if route.environment is not None else None
        explained = _backend(backend, known or BackendState(), 0.0, now, when_asked=False)
        found.append(
            msgspec.structs.replace(
                explained,
                weight=0.0,
                rests_for=0.0,
                condition="drained" if by_operator else "draining",
                condition_for=None,
                on_probation_for="",
                next_probe=None,
                drains=[ExplainedDrain(d.kind, d.name, d.by, max(0.0, d.until - now)) for d in by_operator],
            )
        )
    return found


def explain_demerits(state: BackendState, now: float) -> list[ExplainedDemerit]:
    """The demerits of a backend, the heaviest first. They must have been weighed at `now`."""
    demerits = []
    if state.points_latency:
        age = now - state.last_response_at
        demerits.append(ExplainedDemerit("slower than its neighbours", state.points_latency, age))
    if state.points_errors:
        cause = state.last_error or Cause.GATEWAY_ERROR
        demerits.append(ExplainedDemerit(cause.value, state.points_errors, now - state.error_at))
    return sorted(demerits, key=lambda d: -d.points)
