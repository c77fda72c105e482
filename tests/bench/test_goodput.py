"""A short run of `goodput` with real containers: nothing is lost, and nothing is executed twice."""

import pytest

from bench.balancing import goodput
from tests.support.needs import needs_nginx

pytestmark = [pytest.mark.long, pytest.mark.alone]


@needs_nginx
async def test_overloaded_containers_deliver_through_styx_what_they_deliver_directly():
    report = await goodput.run(goodput.GoodputPlan(rounds=1, seconds=4))
    assert not report.forbidden, report.text()
    assert not report.twice, report.text()
    assert not report.astray, report.text()
    # Less than the goal of the benchmark: four seconds on a busy machine are not a measurement.
    assert report.ratio >= 0.90, report.text()
