"""What compact routes may take up."""

import msgspec

from edge.net.routing.compact_routes import CompactRoutes
from edge.rules.balancing.environments import Environments
from edge.rules.routing.route_records import LARGE_EACH, record_of
from edge.rules.routing.route_response import Backend
from edge.rules.routing.route_table import RouteTable
from edge.rules.routing.route_validation import BackendPolicy
from edge.rules.routing.saved_route import SavedRoute
from edge.rules.settings import DemeritSettings, RetrySettings, RouteSettings
from tests.support.sample_routes import B1, a_response

THOUSAND = tuple(Backend(f"backend-{n}", f"10.0.0.{n % 250}", 8000 + n) for n in range(1000))


def a_record(hostname, *backends):
    response = msgspec.structs.replace(a_response(*backends), hostname=hostname)
    return record_of(hostname, 1e9, SavedRoute(1e9 + 60.0, 1e9 + 600.0, 1e9 + 9000.0, None, response))


def compact_routes(capacity):
    environments = Environments(DemeritSettings(), RetrySettings())
    table = RouteTable(RouteSettings(capacity=capacity, ready=capacity, per_environment=capacity), environments)
    return CompactRoutes(table, environments, None, clock=lambda: 10.0, wall=lambda: 1e9, policy=BackendPolicy())


def test_large_records_are_stored_only_while_they_are_few():
    size = len(a_record("large-10.test", *THOUSAND).data)
    compact = compact_routes(capacity=3 * size // LARGE_EACH + 1)
    for n in range(10):
        compact.keep(a_record(f"small-{n}.test", B1))
    for n in range(10, 20):
        compact.keep(a_record(f"large-{n}.test", *THOUSAND))
    assert [f"large-{n}.test" in compact for n in range(10, 15)] == [True, True, True, False, False]
    assert all(f"small-{n}.test" in compact for n in range(10)), "those of others stay"
    assert compact.promote("large-10.test") is not None
    compact.keep(a_record("large-13.test", *THOUSAND))
    compact.keep(a_record("large-13.test", *THOUSAND))
    compact.keep(a_record("large-14.test", *THOUSAND))
    assert "large-13.test" in compact, "there is room again"
    assert "large-14.test" not in compact
