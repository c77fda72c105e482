"""The scenes of `bench h2`, once and briefly: they measure what they say."""

import pytest

from bench.h2.h2 import H2Plan, run
from bench.h2.h2_floods import FLOODS


@pytest.mark.long
@pytest.mark.alone
async def test_streams_and_floods():
    report = await run(H2Plan(scenes=("isolation", "floods"), rounds=1, seconds=0.5))
    seen = {(line.scene, line.what): line for line in report.lines}
    assert {scene for scene, _ in seen} == {"isolation", *FLOODS}
    for reason in FLOODS:
        assert seen[reason, "ended within"].met, report.text()
        assert seen[reason, "told with this reason"].met, report.text()
    assert seen["isolation", "memory of an unread response of 64 MiB"].met, report.text()


@pytest.mark.long
@pytest.mark.alone
async def test_speed():
    report = await run(H2Plan(scenes=("speed",), rounds=1, seconds=1.0))
    assert len(report.lines) == 5
    assert all(" / " in line.seen for line in report.lines)
