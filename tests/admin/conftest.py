"""What the tests of the admin floor share: one outcome, one snapshot, one explanation, each to be varied."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from edge.rules.outcomes import Attempted, Blame, Cause, Outcome, Phase
from edge.rules.snapshots import ExplainedBackend, ExplainedDemerit, ExplainedRoute, WorkerSnapshot

FINE = Attempted(backend="b7c1", result=Cause.FINE, status=200, connect_ms=0.0, first_byte_ms=12.5)


def build_outcome(**changes: Any) -> Outcome:
    """An answered request, or what the arguments make of it."""
    plain = Outcome(
        time=1_760_000_000.25,
        id="0123456789abcdef",
        client="203.0.113.9",
        method="GET",
        host="live-acme.example.org",
        target="/node/12?x=1",
        status=200,
        bytes_in=0,
        bytes_out=5120,
        site="acme",
        environment="live",
        backend="b7c1",
        phase=Phase.FINISHED,
        blame=Blame.NOBODY,
        cause=Cause.FINE,
        resolve_ms=0.0,
        connect_ms=0.0,
        first_byte_ms=12.5,
        total_ms=15.0,
        overhead_ms=0.03,
        attempts=[FINE],
    )
    return msgspec.structs.replace(plain, **changes)


@pytest.fixture
def outcome() -> Callable[..., Outcome]:
    return build_outcome


@pytest.fixture
def snapshot() -> WorkerSnapshot:
    return WorkerSnapshot(
        client_connections=1,
        client_connections_accepted=2,
        client_connections_refused=3,
        exchanges=4,
        links_idle=5,
        links_open=11,
        links_opened=12,
        links_reused=13,
        routes=14,
        routes_ready=13,
        questions=4,
        unknown_hosts=15,
        environments=16,
        route_hits=17,
        route_stale=18,
        route_misses=19,
        unknown_hits=20,
        lower_generation=21,
        removal_unconfirmed=22,
        removal_held_back=23,
        core_api_up=True,
        retries_exhausted=21,
        backends_down=22,
        probes=23,
        reconnects=24,
    )


@pytest.fixture
def backend() -> Callable[..., ExplainedBackend]:
    def build(**changes: Any) -> ExplainedBackend:
        plain = ExplainedBackend(
            id="b7c1",
            address="10.4.7.12:26607",
            server="srv-192",
            role="active",
            state="running",
            demerits=[],
            weight=1.0,
            probability=0.909,
            in_flight=2,
            rests_for=0.0,
            condition="well",
            condition_for=None,
            on_probation_for="",
            next_probe=None,
            samples=812,
            typical_ms=12.2,
            error_ratio=0.0,
        )
        return msgspec.structs.replace(plain, **changes)

    return build


@pytest.fixture
def explained(backend: Callable[..., ExplainedBackend]) -> ExplainedRoute:
    slow = ExplainedDemerit(cause="slower than its neighbours", points=2.303, age=4.2)
    timeless = ExplainedDemerit(cause="on probation", points=0.5, age=None)
    return ExplainedRoute(
        hostname="live-acme.example.org",
        known=True,
        freshness="fresh",
        age=12.2,
        fresh_for=47.8,
        next_question=42.2,
        source="the core API",
        usable_for=86_387.8,
        last_error=None,
        site="acme",
        environment="live",
        generation=1842,
        maintenance=False,
        redirect=None,
        backends=[
            backend(),
            backend(
                id="c0d9",
                server="srv-217",
                address="10.4.9.1:26611",
                demerits=[slow, timeless],
                weight=0.0606,
                probability=0.091,
                in_flight=0,
                typical_ms=140.4,
                error_ratio=0.125,
                rests_for=8.4,
            ),
            backend(
                id="e1",
                server="srv-9",
                role="standby",
                state="asleep",
                probability=0.0,
                in_flight=0,
                samples=0,
                typical_ms=None,
            ),
        ],
    )
