"""Routes in a file: what they come to, and every fault with its place."""

import pytest

from edge.rules.route_file import routes_in
from edge.rules.routes import Backend, RouteAnswer
from edge.rules.settings_file import SettingsError

GOOD = """\
routes:
  - hostnames: [Shop.test, www.shop.test]
    backends:
      - {address: "10.0.0.1:8000"}
      - {address: "[fd00::7]:8001", id: spare, server: srv-2, role: standby, state: asleep}
  - hostnames: [old.test]
    site: archive
    environment: test
    redirect: https://shop.test
  - hostnames: [closed.test]
    maintenance: true
"""


def test_what_a_file_comes_to() -> None:
    routes = routes_in(GOOD, name="routes.yaml", generation=7)
    backends = (
        Backend("10.0.0.1:8000", "10.0.0.1", 8000),
        Backend("spare", "fd00::7", 8001, "srv-2", "standby", "asleep"),
    )
    assert routes == {
        "shop.test": RouteAnswer("shop.test", "shop.test", "live", 7, backends),
        "www.shop.test": RouteAnswer("www.shop.test", "shop.test", "live", 7, backends),
        "old.test": RouteAnswer("old.test", "archive", "test", 7, (), redirect="https://shop.test"),
        "closed.test": RouteAnswer("closed.test", "closed.test", "live", 7, (), maintenance=True),
    }


@pytest.mark.parametrize("text", ["", "routes: []\n"])
def test_a_file_without_routes_knows_nobody(text: str) -> None:
    assert routes_in(text, name="routes.yaml", generation=1) == {}


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("routes: [\n", ["routes.yaml:2:1: not valid YAML"]),
        ("routes: [{}]", ["routes.yaml:1:10: routes.0.hostnames: required, but not given"]),
        ("routes: [{hostnames: []}]", ["routes.yaml:1:22: routes.0.hostnames: must not be empty"]),
        (
            "routes:\n  - hostnames: [a.test]\n    backend: []\n",
            ["routes.yaml:3:5: routes.0.backend: unknown setting; did you mean backends?"],
        ),
        ("routes:\n  - hostnames: [a..test]\n", ["routes.yaml:2:17: routes.0.hostnames.0: cannot be a hostname"]),
        (
            'routes:\n  - hostnames: [a.test]\n    backends: [{address: ":80"}, {address: "b:0"}]\n',
            ["routes.yaml:3:26: routes.0.backends.0.address: must name", "routes.yaml:3:44: routes.0.backends.1"],
        ),
        (
            'routes:\n  - hostnames: [a.test]\n    backends: [{address: "b:80"}, {address: "b:80"}]\n',
            ["routes.yaml:3:35: routes.0.backends.1: is already there: b:80"],
        ),
        (
            "routes:\n  - hostnames: [a.test]\n  - hostnames: [b.test, A.test]\n",
            ["routes.yaml:3:25: routes.1.hostnames.1: A.test is already in routes.0"],
        ),
        ("routes: [{hostnames: [a.test, a.test]}]", ["routes.yaml:1:31: routes.0.hostnames.1: a.test is already"]),
        (
            'routes: [{hostnames: [a.test], backends: [{address: "b:80", role: boss}]}]',
            ["routes.yaml:1:67: routes.0.backends.0.role: must be one of 'active' or 'standby', not"],
        ),
    ],
)
def test_every_fault_has_its_place(text: str, faults: list[str]) -> None:
    with pytest.raises(SettingsError) as caught:
        routes_in(text, name="routes.yaml", generation=1)
    told = [str(fault) for fault in caught.value.faults]
    assert len(told) == len(faults)
    for said, wanted in zip(told, faults, strict=True):
        assert said.startswith(wanted)
