"""Metrics of the file of routes: one for the whole edge, read by the admin process itself."""

from collections.abc import Iterable

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from edge.rules.route_file_guard import RouteFileState


class RouteFileCollector(Collector):
    """Nothing, while routes come from a core API."""

    def __init__(self, state: RouteFileState) -> None:
        self._state = state

    def collect(self) -> Iterable[Metric]:
        state = self._state
        if not state.is_read:
            return
        up = "1 = the file of routes could be used when it was last looked at."
        yield GaugeMetricFamily("styx_routes_file_up", up, value=float(state.good))
        hostnames = "Hostnames of the file of routes that hold."
        yield GaugeMetricFamily("styx_routes_file_hostnames", hostnames, value=state.hostnames)
        held_back = "Of those, hostnames that the file no longer names, or without backends, and that are kept."
        yield GaugeMetricFamily("styx_routes_file_held_back", held_back, value=state.held_back)
