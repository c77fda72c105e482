"""The members of a response of the core API."""

import msgspec
import pytest

from edge.rules.routing.route_response import Backend, RouteResponse
from tests.support.sample_routes import B1, a_response


def test_the_body_of_a_response() -> None:
    body = b"""{"hostname": "shop.test", "site": "acme", "environment": "live", "generation": 7, "colour": "red",
      "backends": [{"id": "b1", "address": "10.0.0.1", "port": 8000, "weight": 3},
                   {"id": "b2", "address": "fd00::7", "port": 1, "server": "srv-1", "role": "standby",
                    "state": "asleep"}]}"""
    response = msgspec.json.decode(body, type=RouteResponse)
    assert response.backends == (B1, Backend("b2", "fd00::7", 1, "srv-1", "standby", "asleep"))
    assert (response.backends[0].role, response.backends[0].state) == ("active", "running")
    assert (response.generation, response.maintenance, response.redirect) == (7, False, None)


@pytest.mark.parametrize("missing", ["hostname", "site", "environment", "generation", "backends"])
def test_a_response_without_a_required_member_is_rejected(missing: str) -> None:
    body = msgspec.to_builtins(a_response(B1))
    del body[missing]
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(body, RouteResponse)
