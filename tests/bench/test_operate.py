"""Reloads and upgrades of a real styx under load: nothing is lost. The other scenes: `python -m bench operate`."""

from pathlib import Path

import pytest

from bench.operations import operate
from bench.operations.operate_scenes import BREAKS

EDGE = Path(__file__).parents[2] / "edge"


@pytest.mark.long
@pytest.mark.parametrize("http2", [False, True], ids=["h1", "h2"])
@pytest.mark.parametrize(("scene", "seconds"), [("reloads", 5), ("upgrade", 6)])
async def test_nothing_is_lost(scene, seconds, http2):
    report = await operate.run(operate.OperatePlan(seconds=seconds, rate=200, scenes=(scene,), http2=http2))
    [line] = report.lines
    assert line.good, report.text()
    assert line.offered == line.completed, report.text()
    # The load has really gone on all the time.
    assert line.offered > 200 * seconds * 0.7, report.text()


@pytest.mark.parametrize("broken", BREAKS[1:], ids=lambda broken: broken.label)
def test_a_broken_version_is_broken_where_it_is_meant_to_be(broken):
    """And not by its syntax."""
    text = (EDGE / broken.file).read_text()
    assert text.count(broken.text) == 1
    compile(text.replace(broken.text, broken.broken), broken.file, "exec")
