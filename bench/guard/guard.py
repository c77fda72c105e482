"""Fails when a request has become more expensive than in an earlier version: `python -m bench guard`.

The earlier version is the newest tag, or else the commit in `base_commit.txt`. Both versions are measured here and
now, with the same Python and libraries, so that no figure of another machine is compared. Two measures:

- Instructions per request, counted by callgrind, through one worker without sockets. Two runs differ by less than
  0.5 %, however busy the machine is. More than INSTRUCTIONS twice in a row is a failure.
- CPU per request of two running edges on the same core (`bench/speed/versions.py`). More than CPU twice in a row,
  with every round above 1, is a failure.

To make a request more expensive on purpose, write the new commit into `base_commit.txt`, and the reason into the
message of that commit.
"""

import asyncio
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from bench.guard.requests_in_process import REQUESTS
from bench.lab.programs import BenchFailed, end_of, need, program
from bench.lab.servers import ROOT
from bench.report import table, verdict
from bench.speed import versions
from edge.platform.child_process import ChildProcess

INSTRUCTIONS = 1.02
"Most instructions per request, as a multiple of the base's."
CPU = 1.08
"Most CPU per request, as a multiple of the base's."
BASE_FILE = Path(__file__).with_name("base_commit.txt")
HARNESS = "bench.guard.requests_in_process"
FOLDERS = ("edge", "bench", "tests")
COMPILER = ("hatch_build.py", "pyproject.toml")
"What a copy of a version consists of, and what compiles it."
DEADLINE = 240.0
"Seconds for one run under callgrind: 12 on a quiet machine."
COMPILE_DEADLINE = 1200.0
"Seconds for compiling one version: 120 on a quiet machine."
THIS, BASE = "this", "base"
"Folders of the two copies; `versions` reports the base by this name."


@dataclass(frozen=True, kw_only=True, slots=True)
class GuardPlan:
    """What is measured."""

    rounds: int = 5
    seconds: float = 1.0
    bodies: tuple[str, ...] = ("tiny body", "64 KiB body", "tiny, sessions", "tiny, unique heads")
    "Of `versions`; empty = CPU is not measured."
    against: tuple[Path, ...] = ()
    "A checkout of the base; empty = the newest tag or the recorded commit."
    compile: bool = False
    "Whether both versions are compiled first, which takes minutes; else plain Python is compared."


@dataclass(frozen=True, slots=True)
class Finding:
    """One measure of one load: ratios to the base, of every round of the last try."""

    what: str
    load: str
    ratios: Sequence[float]
    most: float
    tries: int = 1

    @property
    def met(self) -> bool:
        return not is_regression(self.ratios, self.most)


@dataclass(slots=True)
class GuardReport:
    """All findings, and what could not be measured."""

    base: str
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return all(finding.met for finding in self.findings)

    def text(self) -> str:
        rows = [
            (
                f"{finding.what}: {finding.load}",
                f"{median(finding.ratios):.3f}",
                f"{min(finding.ratios):.3f}-{max(finding.ratios):.3f}",
                f"<= {finding.most}",
                str(finding.tries),
                verdict(met=finding.met),
            )
            for finding in self.findings
        ]
        heading = (f"this / {self.base}", "median", "min-max", "goal", "tries", "")
        return "\n".join([table(heading, rows), *self.notes])


def is_regression(ratios: Sequence[float], most: float) -> bool:
    """Whether this version costs more than `most` times the base: the median, while no round says the opposite."""
    return median(ratios) > most and min(ratios) > 1.0


Measure = Callable[[Sequence[str]], Awaitable[Mapping[str, Sequence[float]]]]
"Ratios by load, of the loads that are named."


async def judged(what: str, most: float, loads: Sequence[str], measure: Measure) -> list[Finding]:
    """Measure once, and loads that seem to be more expensive once more: they must be so twice in a row."""
    first = {load: Finding(what, load, ratios, most) for load, ratios in (await measure(loads)).items()}
    doubtful = [load for load, finding in first.items() if not finding.met]
    again = await measure(doubtful) if doubtful else {}
    return [
        Finding(what, load, again[load], most, tries=2) if load in again else finding
        for load, finding in first.items()
    ]


async def run(plan: GuardPlan) -> GuardReport:
    """Raises BenchFailed."""
    with tempfile.TemporaryDirectory(prefix="styx-guard-") as name:
        directory = Path(name)
        this, base = directory / THIS, directory / BASE
        copy_checkout(ROOT, this)
        if plan.against:
            copy_checkout(plan.against[0], base)
            report = GuardReport(str(plan.against[0]))
        elif (name_of_base := extract_base(base)) is not None:
            report = GuardReport(name_of_base)
        else:
            return GuardReport("none", notes=["Nothing is compared: the history of the repository is not here."])
        if plan.compile:
            await asyncio.gather(compile_copy(this), compile_copy(base))
        report.findings += await _instructions(this, base, report.notes)
        if plan.bodies:
            report.findings += await _cpu(plan, this, base, report.notes)
        return report


def copy_checkout(checkout: Path, target: Path) -> None:
    """Without extension modules: both versions are plain Python, or compiled for the comparison."""
    ignored = shutil.ignore_patterns("*.so", "__pycache__", "results", "report")
    for folder in FOLDERS:
        if (checkout / folder).is_dir():
            shutil.copytree(checkout / folder, target / folder, ignore=ignored)
    for file in COMPILER:
        if (checkout / file).exists():
            shutil.copy(checkout / file, target)


async def compile_copy(copy: Path) -> None:
    """Compile the modules of the hot path in place. Raises BenchFailed."""
    command = [program("env"), "-C", str(copy), sys.executable, "hatch_build.py", "compile"]
    child = ChildProcess.spawn(command, log=copy / "compile.log", env={"PYTHONPATH": str(copy)})
    await end_of(child, COMPILE_DEADLINE, lambda: f"the compiler did not end: {child.last_words()}")
    if not any((copy / "edge").glob("*.so")):
        raise BenchFailed(f"{copy.name} was not compiled: {child.last_words()}")


def extract_base(target: Path) -> str | None:
    """Extract the base from the repository; returns its name; None = the history is missing."""
    for name in _candidates():
        archive = _git("archive", "--format=tar", name, *FOLDERS, *COMPILER)
        if archive is not None:
            target.mkdir()
            subprocess.run([program("tar"), "-xf", "-", "-C", str(target)], input=archive, check=True)
            return name[:12]
    return None


def _candidates() -> list[str]:
    """The newest tag, the recorded commit, the parent commit; of these, which may not be there."""
    tag = _git("describe", "--tags", "--abbrev=0")
    recorded = [BASE_FILE.read_text().split()[0]] if BASE_FILE.exists() else []
    return ([tag.decode().strip()] if tag else []) + recorded + ["HEAD^"]


def _git(*arguments: str) -> bytes | None:
    """What git prints; None = it failed."""
    try:
        ran = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, check=False)
    except FileNotFoundError:
        return None
    return ran.stdout if ran.returncode == 0 else None


async def _instructions(this: Path, base: Path, notes: list[str]) -> list[Finding]:
    if not (base / (HARNESS.replace(".", "/") + ".py")).exists():
        notes.append("Instructions are not compared: the base has no harness for it.")
        return []
    try:
        need("valgrind")
    except BenchFailed as error:
        if os.environ.get("STYX_NO_SKIP"):
            raise
        notes.append(f"Instructions are not compared: {error}")
        return []

    async def measure(loads: Sequence[str]) -> Mapping[str, Sequence[float]]:
        ours, theirs = await asyncio.gather(count_instructions(this), count_instructions(base))
        _progress(f"instructions per request: {ours}, base {theirs}")
        wanted = loads or list(ours)
        return {load: [ours[load] / theirs[load]] for load in wanted if load in theirs}

    return await judged("instructions", INSTRUCTIONS, (), measure)


async def count_instructions(checkout: Path) -> dict[str, int]:
    """Instructions per request of each load. Raises BenchFailed."""
    output = checkout / "callgrind.out"
    command = [program("env"), "-C", str(checkout), program("valgrind"), "-q", "--vgdb-poll=50", "--tool=callgrind"]
    command += [
        "--instr-atstart=no",
        f"--callgrind-out-file={output}",
        sys.executable,
        "-m",
        HARNESS,
        "--callgrind",
    ]
    # Both versions have a path of the same length, because it shifts the stack.
    child = ChildProcess.spawn(
        command, log=checkout / "callgrind.log", env={"PYTHONHASHSEED": "0", "PYTHONPATH": str(checkout)}
    )
    await end_of(child, DEADLINE, lambda: f"callgrind did not end: {child.last_words()}")
    counts = _dumps(output)
    if not counts:
        raise BenchFailed(f"callgrind counted nothing: {child.last_words()}")
    return counts


def _dumps(output: Path) -> dict[str, int]:
    """Instructions per request by load, from the files that callgrind wrote."""
    counts = {}
    for path in output.parent.glob(f"{output.name}.*"):
        text = path.read_text()
        load = re.search(r"^desc: Trigger: dump (\S+)$", text, re.MULTILINE)
        total = re.search(r"^totals: (\d+)$", text, re.MULTILINE)
        if load and total and int(total[1]):
            counts[load[1]] = round(int(total[1]) / REQUESTS)
    return counts


async def _cpu(plan: GuardPlan, this: Path, base: Path, notes: list[str]) -> list[Finding]:
    async def measure(bodies: Sequence[str]) -> Mapping[str, Sequence[float]]:
        report = await versions.run(
            versions.VersionsPlan(
                against=(base,), this=this, bodies=tuple(bodies), rounds=plan.rounds, seconds=plan.seconds
            )
        )
        _progress(report.text())
        return {body: report.ratios(body, BASE) for body in report.costs}

    for last in (False, True):
        try:
            return await judged("CPU", CPU, plan.bodies, measure)
        except BenchFailed as error:  # a stalled machine: wrk counts requests of more than two seconds as errors
            _progress(str(error))
            if last:
                notes.append(f"CPU is not compared: {str(error).splitlines()[0]}")
    return []


def _progress(text: str) -> None:
    print(f"guard: {text}", file=sys.stderr, flush=True)
