"""A short run of `goodput` with real containers: nothing is lost, and nothing is executed twice."""

import pytest

from bench.balancing import goodput
from edge.platform.containers.container import ContainerFailed
from edge.platform.containers.nginx_container import Binaries

pytestmark = [pytest.mark.long, pytest.mark.alone]

try:
    Binaries.find()
    MISSING = ""
except ContainerFailed as failure:
    MISSING = str(failure)


@pytest.mark.skipif(bool(MISSING), reason=MISSING or "nothing is missing")
async def test_overloaded_containers_deliver_through_styx_what_they_deliver_directly():
    report = await goodput.run(goodput.GoodputPlan(rounds=1, seconds=6))
    assert not report.forbidden, report.text()
    assert not report.twice, report.text()
    assert not report.astray, report.text()
    # Less than the goal of the benchmark: six seconds on a busy machine are not a measurement.
    assert report.ratio >= 0.90, report.text()
