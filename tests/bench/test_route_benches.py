"""The bench on routes, for a moment: it runs, and what it plays goes well."""

import pytest

from bench.routing import routes

pytestmark = pytest.mark.long


@pytest.mark.parametrize("scene", ["first", "moved"])
async def test_scene(scene):
    plan = routes.RoutesPlan(scenes=[scene], first=1000, new=200, moved_rate=100.0, moves_at=1.5, moved_seconds=3.0)
    report = await routes.run(plan)
    assert report.good, report.text()
    assert len(report.lines) >= 3


async def test_a_core_api_in_trouble():
    report = await routes.run(
        routes.RoutesPlan(scenes=["faults"], troubles=("500", "empty list"), each_trouble=1.5)
    )
    assert report.good, report.text()
