"""The screen of `styx top`, as text."""

import io

import msgspec
import pytest
from rich.console import Console

from edge.run.top.top import run_top
from edge.run.top.top_screen import WIDTH, bar, notes, screen
from tests.support.staged_status import StagedStatus, container, environment


def text_of(renderable, width=160):
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(renderable)
    return console.file.getvalue()


@pytest.fixture
def stage():
    return StagedStatus()


async def test_what_is_served_and_by_whom(stage):
    stage.sicken()
    text = text_of(screen(await stage.snapshot(), 50))
    lines = text.splitlines()
    assert lines[0].startswith("edge-fra-1  ready   103214 hostnames, 10214 environments   core API works")
    assert "failed: client 2.0, backend 1.0   median 11 ms, 95 % 47 ms, 99 % 131 ms" in lines[1]
    assert lines[3].split()[0] == "acme/live", "those in trouble come first"
    assert "ac00 down (connect failed)" in lines[3]
    assert "bo00 probation (slow)" in lines[4]
    assert "drained: backend cafe-central/live/ca01 by alice, " in text
    assert "route lookup problem hostname=a.b" in text


async def test_listeners_and_the_top_sites(stage):
    snapshot = await stage.snapshot()
    lines = [line.split() for line in text_of(screen(snapshot, 50)).splitlines()]
    assert ["0.0.0.0:8443", "375", "2"] in lines
    at = next(n for n, line in enumerate(lines) if line[:2] == ["most", "requests"])
    assert lines[at + 1] == ["acme/live", "310.0", "ember/live", "2.31", "fjordline/live", "4200", "ms"]
    assert lines[at + 5] == ["ember/live", "38.3", "borealis/live", "45", "ms"], "there are fewer with errors"
    assert "most requests" not in text_of(screen(snapshot, 24)), "they need room"
    stage.top = None
    assert "most requests" not in text_of(screen(await stage.snapshot(), 50))


async def test_a_small_terminal_shows_fewer_environments(stage):
    snapshot = await stage.snapshot()
    assert "fjordline/live" in text_of(screen(snapshot, 40))
    small = text_of(screen(snapshot, 10))
    assert "acme/live" in small
    assert "fjordline/live" not in small


async def test_a_narrow_terminal_keeps_names_and_containers(stage):
    stage.sicken()
    lines = text_of(screen(await stage.snapshot(), 40), width=80).splitlines()
    assert next(line for line in lines if line.startswith("environment")).split()[:3] == [
        "environment",
        "per",
        "second",
    ]
    [fjordline] = [line for line in lines if "fjordline" in line and "█" in line]
    assert fjordline.startswith("fjordline/live ")
    assert fjordline.count("█") == 3 * round(WIDTH / 3)


@pytest.mark.parametrize(
    ("containers", "expected"),
    [
        ([container("a", 1.0)], "█" * WIDTH),
        ([container("a", 0.5), container("b", 0.5)], f"{'█' * (WIDTH // 2)} {'█' * (WIDTH // 2)}"),
        ([container("a", 0.0, "down"), container("b", 0.0, "drained")], "D D"),
        ([], ""),
    ],
)
def test_the_picture_of_shares(containers, expected):
    assert bar(containers).plain.rstrip() == expected


def test_notes():
    site = environment("acme", [], maintenance=True, redirect="https://x.test", drained=True)
    assert notes(site).plain == "maintenance redirected to https://x.test drained by an operator "
    assert notes(environment("acme", [container("a", 1.0)])).plain == ""


async def test_a_worker_that_is_silent_and_a_stage_with_a_reason(stage):
    snapshot = await stage.snapshot()
    silent = msgspec.structs.replace(snapshot.workers[0], heard=7.0, leaving=True)
    changed = msgspec.structs.replace(
        snapshot, workers=[silent], stage="draining", reason="SIGTERM", events=[], drains=[]
    )
    text = text_of(screen(changed, 50))
    assert "draining: SIGTERM" in text
    assert "0 (leaving)" in text
    assert "silent for 7 s" in text
    assert "nothing to report" in text


async def test_once(stage):
    snapshot, console = await stage.snapshot(), Console(file=io.StringIO(), width=120)
    run_top(lambda: snapshot, once=True, interval=1.0, console=console)
    assert "acme/live" in console.file.getvalue()


async def test_live_until_ctrl_c(stage):
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    snapshot, reads = await stage.snapshot(), []

    def read():
        reads.append(1)
        if len(reads) == 3:
            raise KeyboardInterrupt
        return snapshot

    run_top(read, once=False, interval=0.01, console=console)
    assert len(reads) == 3
    assert "acme/live" in console.file.getvalue()
