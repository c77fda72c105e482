"""Half a minute of Reaper and migration dragon under load: no request is lost, no POST is executed twice."""

import pytest

from bench.operations import upkeep


@pytest.mark.long
async def test_half_a_minute_of_reaper_and_dragon_loses_no_request():
    report = await upkeep.run(upkeep.UpkeepPlan(seconds=30.0))
    assert report.good, report.text()
    assert report.slept > 10, report.text()
    assert report.moved > 30, report.text()
    assert report.busy.offered + report.quiet.offered > 2000


@pytest.mark.long
async def test_with_real_nginx_too():
    plan = upkeep.UpkeepPlan(seconds=15.0, rate=30.0, quiet_sites=3, quiet_rate=0.6, idle_after=2.0, make="nginx")
    report = await upkeep.run(plan)
    assert report.good, report.text()
