"""`intruder` judges changed files and effects, and a short run of it meets its goals."""

import os
import pwd

import pytest

from bench.hostile import intruder
from bench.hostile.intruder_report import GROWTH_GOAL, IntruderReport, Victims
from bench.report import Fact

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.mark.parametrize("met", [None, True, False])
def test_facts_count(met):
    report = IntruderReport(facts=[Fact("requests to act", "4 x 200", "none taken", met)])
    assert report.good is (met is not False)


@pytest.mark.parametrize("grown", [GROWTH_GOAL, GROWTH_GOAL + 1])
def test_growth_counts(grown):
    report = IntruderReport(grown={"control": {"admin": grown, "master": 0}})
    assert report.good is (grown <= GROWTH_GOAL)
    assert "20.0" in report.text()


@needs_root
@pytest.mark.parametrize("change", ["owner", "mode", "content", "entry"])
def test_a_file_of_root_that_changes_is_seen_and_restored(tmp_path, change):
    victims = Victims(tmp_path / "victims")
    assert not victims.changed()
    file, *_, folder = victims.paths
    match change:
        case "owner":
            os.chown(file, pwd.getpwnam("nobody").pw_uid, -1)
        case "mode":
            file.chmod(0o666)
        case "content":
            file.write_text("something else")
        case "entry":
            (folder / "new").touch()
    [change_found] = victims.changed()
    assert change_found.startswith("folder" if change == "entry" else "secret")
    victims.restore()
    assert bool(victims.changed()) is (change == "entry")


@pytest.mark.long
@pytest.mark.alone
@needs_root
async def test_nobody_gets_anything():
    report = await intruder.run(intruder.IntruderPlan(seconds=4.0, connections=100))
    assert report.good, report.text()
