"""Short runs of `balance` and `once` meet their goals."""

import pytest

from bench.balancing import balance, once

pytestmark = pytest.mark.long


async def test_no_post_is_executed_twice_whatever_happens():
    report = await once.run(once.OncePlan(seconds=8.0))
    assert report.good, report.text()
    assert report.load_result.offered > 2000
    assert sum(report.seen.attempts) > len(report.seen.executed), "some were tried again"


@pytest.mark.alone
async def test_styx_steps_around_a_container_that_fails_at_once():
    report = await balance.run(balance.BalancePlan(seconds=2.0, warm_up=3.0, scenarios=["c"], only=["styx"]))
    [played] = report.played["c"]["styx"]
    assert played.goodput == 1.0, report.text()
    assert played.bad_share < 0.02
    assert report.good
