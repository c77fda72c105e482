"""Reaper and migration dragon under load: no request is lost, no POST is executed twice."""

import pytest

from bench.operations import upkeep


@pytest.mark.long
async def test_reaper_and_dragon_lose_no_request():
    plan = upkeep.UpkeepPlan(seconds=15.0, quiet_rate=4.0, idle_after=1.5, pause=0.15)
    report = await upkeep.run(plan)
    assert report.good, report.text()
    assert report.slept > 10, report.text()
    assert report.moved > 30, report.text()
    assert report.busy.offered + report.quiet.offered > 1000


@pytest.mark.long
async def test_with_real_nginx_too():
    plan = upkeep.UpkeepPlan(seconds=10.0, rate=30.0, quiet_sites=3, quiet_rate=0.6, idle_after=2.0, make="nginx")
    report = await upkeep.run(plan)
    assert report.good, report.text()
