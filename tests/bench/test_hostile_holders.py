"""A short run of `holders`, with fewer clients, meets its goals."""

import pytest

from bench.hostile.hostile_holders import HostileHoldersPlan, HostileHoldersReport, Line, play


def test_only_what_is_not_met_is_bad() -> None:
    lines = [
        Line("idle", "nginx", "new ones", "30 x nothing"),
        Line("idle", "styx", "new ones", "30 x 200", met=True),
    ]
    assert HostileHoldersReport(lines).good
    assert not HostileHoldersReport([*lines, Line("readers", "styx", "memory of each", "250 KiB", met=False)]).good
    assert (
        "NOT MET" in HostileHoldersReport([Line("readers", "styx", "memory of each", "250 KiB", met=False)]).text()
    )


@pytest.mark.long
@pytest.mark.alone
async def test_styx_alone() -> None:
    report = await play(HostileHoldersPlan(readers=300, seconds=2.0, edges=("styx",)))
    assert report.good, report.text()
    assert {line.scene for line in report.lines if line.met} == {"readers", "idle", "vanished", "holders"}
