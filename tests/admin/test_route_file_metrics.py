"""Metrics of the file of routes."""

from prometheus_client import CollectorRegistry, generate_latest

from edge.admin.route_file_metrics import RouteFileCollector
from edge.rules.route_file_guard import RouteFileState


def numbers(state):
    registry = CollectorRegistry()
    registry.register(RouteFileCollector(state))
    lines = generate_latest(registry).decode().splitlines()
    return dict(line.split(" ") for line in lines if not line.startswith("#"))


def test_nothing_without_a_file_and_three_numbers_with_one():
    state = RouteFileState()
    assert numbers(state) == {}
    state.reset(is_read=True)
    state.hostnames, state.held_back, state.good = 100, 60, False
    assert numbers(state) == {
        "styx_routes_file_up": "0.0",
        "styx_routes_file_hostnames": "100.0",
        "styx_routes_file_held_back": "60.0",
    }
