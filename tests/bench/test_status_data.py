"""The bench of what looks at an edge cost, with few environments: it measures, whatever the machine can do now."""

import pytest

from bench.operations.status_data import StatusPlan, run


@pytest.mark.long
@pytest.mark.timeout(180)
async def test_a_short_run() -> None:
    report = await run(StatusPlan(seconds=1.5, environments=50, rate=100.0))
    assert report.environments == 50
    assert set(report.load.statuses) == {"200"}
    assert report.idle.times
    assert report.loaded.times
    assert report.loaded.cpu > 0
    assert report.snapshots > 0
    assert "the page's data" in report.text()
