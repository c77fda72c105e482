"""Short runs of `routes` meet their goals."""

import pytest

from bench.routing import route_stage, routes

pytestmark = [pytest.mark.long, pytest.mark.alone]


@pytest.mark.parametrize("scene", ["first", "moved"])
async def test_scene(scene):
    plan = route_stage.RoutesPlan(
        scenes=[scene], first=1000, new=200, moved_rate=100.0, moves_at=1.0, moved_seconds=2.0
    )
    report = await routes.run(plan)
    assert report.good, report.text()
    assert len(report.lines) >= 3


async def test_a_core_api_in_trouble():
    report = await routes.run(
        route_stage.RoutesPlan(scenes=["faults"], troubles=("500", "empty list"), each_trouble=1.5)
    )
    assert report.good, report.text()
