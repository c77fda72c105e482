"""The source of routes that the settings select."""

import time

from edge.net.routing.core_api import CoreApi
from edge.net.routing.pushed_routes import PushedRoutes
from edge.net.routing.route_source import route_source
from edge.rules.balancing.environments import Environments
from edge.rules.routing.route_table import RouteTable
from edge.rules.routing.route_validation import BackendPolicy
from edge.rules.settings import CoreApiSettings, DemeritSettings, RetrySettings, RouteSettings


def test_a_file_is_pushed_and_a_core_api_is_asked():
    table = RouteTable(RouteSettings(), Environments(DemeritSettings(), RetrySettings()))
    pushed, policy = PushedRoutes(table, time.monotonic), BackendPolicy((), loopback=True)

    def chosen(url):
        return route_source(CoreApiSettings(url=url), lambda *_: None, policy, pushed)

    assert chosen("file:/etc/styx/routes.yaml") is pushed
    assert isinstance(chosen("http://127.0.0.1:1"), CoreApi)
