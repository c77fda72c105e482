"""Reloads and upgrades of a real styx under load: nothing is lost. The other scenes: `python -m bench operate`."""

import pytest

from bench.operations import operate

pytestmark = pytest.mark.long


@pytest.mark.parametrize(("scene", "seconds"), [("reloads", 5), ("upgrade", 6)])
async def test_nothing_is_lost(scene, seconds):
    report = await operate.run(operate.OperatePlan(seconds=seconds, rate=200, scenes=(scene,)))
    [line] = report.lines
    assert line.good, report.text()
    assert line.offered == line.answered, report.text()
    # The load has really gone on all the time.
    assert line.offered > 200 * seconds * 0.7, report.text()
