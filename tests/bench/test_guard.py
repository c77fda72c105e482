"""The guard: what counts as a regression, where the base comes from, and that its harness runs."""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from bench.guard import guard
from bench.guard.guard import is_regression, judged
from bench.guard.requests_in_process import KINDS, LOADS, SESSIONS, WorkerWithoutSockets, head, session_head


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [
        ([1.0, 1.0, 1.0], False),
        ([1.05, 1.07, 1.08], False),
        ([1.09, 1.10, 1.11], True),
        ([0.99, 1.10, 1.20], False),
        ([1.021], False),
        ([1.2], True),
    ],
)
def test_a_regression_is_in_the_median_and_in_every_round(ratios: list[float], *, expected: bool) -> None:
    assert is_regression(ratios, 1.08) is expected


class Measured:
    """Returns these ratios in turn, for the loads that it is called with."""

    def __init__(self, *ratios: Mapping[str, Sequence[float]]) -> None:
        self._ratios = list(ratios)
        self.calls: list[list[str]] = []

    async def __call__(self, loads: Sequence[str]) -> Mapping[str, Sequence[float]]:
        self.calls.append(list(loads))
        return {load: ratios for load, ratios in self._ratios.pop(0).items() if load in loads}


async def test_what_is_too_expensive_is_measured_again_alone() -> None:
    measure = Measured({"a": [1.2], "b": [1.0]}, {"a": [1.0], "b": [9.0]})
    findings = await judged("CPU", 1.08, ["a", "b"], measure)
    assert measure.calls == [["a", "b"], ["a"]]
    assert [(finding.load, finding.tries, finding.met) for finding in findings] == [("a", 2, True), ("b", 1, True)]


async def test_twice_in_a_row_is_a_failure() -> None:
    findings = await judged("CPU", 1.08, ["a"], Measured({"a": [1.2]}, {"a": [1.1]}))
    assert not findings[0].met
    report = guard.GuardReport("v1", findings)
    assert not report.good
    assert "NOT MET" in report.text()


def test_the_base_is_the_first_that_the_repository_has(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    archived = []

    def git(*arguments: str) -> bytes | None:
        if arguments[0] == "archive":
            archived.append(arguments[2])
        return None

    monkeypatch.setattr(guard, "_git", git)
    assert guard.extract_base(tmp_path) is None
    assert archived == [guard.BASE_FILE.read_text().split()[0], "HEAD^"]


def test_a_copy_has_no_extension_modules(tmp_path: Path) -> None:
    checkout, target = tmp_path / "checkout", tmp_path / "copy"
    (checkout / "edge").mkdir(parents=True)
    (checkout / "edge" / "a.py").touch()
    (checkout / "edge" / "a.cpython-311-x86_64-linux-gnu.so").touch()
    guard.copy_checkout(checkout, target)
    assert [path.name for path in (target / "edge").iterdir()] == ["a.py"]


def test_counts_are_read_from_the_files_of_callgrind(tmp_path: Path) -> None:
    for number, trigger, total in (
        (1, "dump tiny", 60000),
        (2, "dump large", 90000),
        (3, "Program termination", 0),
    ):
        text = f"version: 1\ndesc: Trigger: {trigger}\nevents: Ir\ntotals: {total}\n"
        (tmp_path / f"callgrind.out.{number}").write_text(text)
    assert guard._dumps(tmp_path / "callgrind.out") == {"tiny": 200, "large": 300}


@pytest.mark.parametrize("load", LOADS)
async def test_the_harness_completes_its_requests(load: str) -> None:
    worker = WorkerWithoutSockets()
    try:
        for number in range(3):
            await worker.request(LOADS[load], LOADS[load].head(number))
        assert worker.finished == 3
    finally:
        await worker.close()


def test_heads_differ_by_their_number_alone() -> None:
    assert head(1) == head(1) != head(2)
    assert len(head(1)) == len(head(2))


def test_heads_of_sessions_repeat_per_session() -> None:
    heads = [session_head(number) for number in range(2 * SESSIONS * KINDS)]
    assert heads[: SESSIONS * KINDS] == heads[SESSIONS * KINDS :]
    assert len(set(heads)) == SESSIONS * KINDS
    assert LOADS["sessions"].warm_up == len(heads), "all of them are cached when the count begins"


async def test_the_harness_runs_by_itself() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", guard.HARNESS, cwd=guard.ROOT, stderr=asyncio.subprocess.PIPE
    )
    _, errors = await process.communicate()
    assert (process.returncode, errors) == (0, b"")
