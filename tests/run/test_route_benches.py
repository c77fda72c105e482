"""The bench on routes, for a moment: it runs, and what it plays goes well."""

import pytest

from bench import routes

pytestmark = pytest.mark.long


@pytest.mark.parametrize("scene", ["first", "moved"])
async def test_scene(scene, monkeypatch):
    monkeypatch.setattr(routes, "FIRST", 1000)
    monkeypatch.setattr(routes, "NEW", 200)
    monkeypatch.setattr(routes, "MOVED_RATE", 100.0)
    monkeypatch.setattr(routes, "MOVED_SECONDS", 3.0)
    monkeypatch.setattr(routes, "MOVES_AT", 1.5)
    report = await routes.run(routes.Plan(scenes=[scene]))
    assert report.good, report.text()
    assert len(report.lines) >= 3


async def test_a_core_api_in_trouble(monkeypatch):
    monkeypatch.setattr(routes, "EACH_FAULT", 1.5)
    monkeypatch.setattr(routes, "TROUBLES", ("500", "empty list"))
    report = await routes.run(routes.Plan(scenes=["faults"]))
    assert report.good, report.text()
