"""Counts the requests that are lost in reloads, upgrades, restarts and crashes; the goal is none.

An open loop of requests goes on while a styx with two workers is reloaded, upgraded, replaced, and its processes
are killed or stopped, each in a scene of its own (`operate_scenes`) with a fresh styx.
"""

import asyncio
import signal
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from bench.balancing.goodput import p99
from bench.h2 import h2_availability_load
from bench.h2.h2load import again_and_again
from bench.lab import availability_load
from bench.lab.availability_load import AvailabilityLoad, AvailabilityResult, Fault
from bench.lab.load_process import result_of, running_load
from bench.lab.programs import BenchFailed
from bench.lab.servers import spawn, until
from bench.operations.operate_scenes import SCENES, Monitor, Play, Scene
from bench.operations.operated_edge import operated
from bench.report import table, verdict

HOSTS = [f"site-{number}.test" for number in range(8)]
H2LOAD_HOST = "h2load.test"
H2LOAD = ("-n", 80, "-c", 4, "-m", 4, "--rps", 20, f"-H:authority: {H2LOAD_HOST}")
"""What h2load sends beside the open loop: again and again, on new connections. Its streams that are in the access
log must have succeeded there: of others, h2load does not say whether it has sent them."""
BEFORE, MEANWHILE = 0.15, 0.6
"Shares of the time: until something is done, and for that. In the rest shows what comes late."


@dataclass(frozen=True, slots=True)
class OperatePlan:
    """How long and how hard."""

    seconds: float = 60.0
    "Of each scene."
    rate: float = 1000.0
    seed: int = 1
    scenes: tuple[str, ...] = tuple(scene.name for scene in SCENES)
    http2: bool = False
    "Whether the requests are streams of HTTP/2."


@dataclass(slots=True)
class Line:
    """What came of one scene."""

    scene: str
    goal: str
    offered: int
    completed: int
    latencies_ms: list[float]
    "Median, p99, longest; from when each request was due."
    late_p99_ms: float
    "How late the generator was."
    lost: list[Fault]
    excused: list[Fault]
    "Lost as the goal allows it."
    complaints: list[str]
    marks: list[tuple[float, str]]
    "What was done, and when."

    @property
    def good(self) -> bool:
        return not self.lost and not self.complaints

    def cells(self) -> tuple[str, ...]:
        kinds = Counter(fault.kind for fault in self.lost)
        url_file = ", ".join(f"{times} x {kind}" for kind, times in kinds.most_common()) or "none"
        latency = " / ".join(f"{value:.0f}" for value in self.latencies_ms)
        figures = (str(self.offered), str(self.completed), url_file, str(len(self.excused)), latency)
        return (self.scene, *figures, self.goal, verdict(met=self.good))

    def faults_text(self, most: int = 6) -> list[str]:
        """A few of the faults, each with what was done last before."""
        return [self._text(fault) for fault in sorted(self.lost, key=lambda fault: fault.seen)[:most]]

    def _text(self, fault: Fault) -> str:
        when = fault.sent or fault.seen
        before = [(at, what) for at, what in self.marks if at <= when]
        after = f"{when - before[-1][0]:.3f} s after {before[-1][1]!r}" if before else "before anything was done"
        lasted = f", known {fault.seen - when:.3f} s later" if fault.sent else ", never sent"
        return f"{fault.kind} on a {'kept' if fault.keep_alive else 'new'} connection, {after}{lasted}"


@dataclass(slots=True)
class OperateReport:
    """All scenes."""

    seconds: float
    rate: float
    http2: bool = False
    lines: list[Line] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return bool(self.lines) and all(line.good for line in self.lines)

    def text(self) -> str:
        heading = ("scene", "requests", "ok", "lost", "excused", "ms p50 / p99 / max", "goal", "")
        parts = [
            f"operate: 2 workers, {self.rate:g} requests/s in an open loop for {self.seconds:g} s, "
            + ("streams of HTTP/2" if self.http2 else "every second one on a new connection"),
            table(heading, (line.cells() for line in self.lines)),
        ]
        for line in self.lines:
            wrong = [*line.complaints, *line.faults_text()]
            if wrong:
                parts.append("\n".join([f"{line.scene}:", *(f"  {text}" for text in wrong)]))
        late = max((line.late_p99_ms for line in self.lines), default=0.0)
        parts.append(f"The generator began 99 % of its requests within {late:.1f} ms of when they were due.")
        return "\n\n".join(parts)


async def run(plan: OperatePlan) -> OperateReport:
    """Raises BenchFailed, ContainerFailed."""
    report = OperateReport(plan.seconds, plan.rate, plan.http2)
    with tempfile.TemporaryDirectory(prefix="styx-bench-") as name:
        directory = Path(name)
        async with _backend(directory) as core_api_url:
            for number, scene in enumerate(scene for scene in SCENES if scene.name in plan.scenes):
                folder = directory / f"scene-{number}"
                folder.mkdir()
                report.lines.append(await _play(scene, plan, folder, core_api_url))
    return report


async def _play(scene: Scene, plan: OperatePlan, directory: Path, core_api_url: str) -> Line:
    log = directory / "access.log"
    home, settings = scene.home(directory), {"core_api": {"url": core_api_url}, **scene.settings}
    if plan.http2:
        settings["access_log"] = {"path": str(log), "flush_interval": "100ms"}
    async with AsyncExitStack() as until_the_end:
        held = until_the_end.enter_context(scene.socket())
        port = held.getsockname()[1] if held is not None else 0
        edge = await until_the_end.enter_async_context(
            operated("styx", directory, settings, port=port, sock=held, home=home, listener={"http2": plan.http2})
        )
        monitor = Monitor()
        load = AvailabilityLoad(port=edge.port, hosts=HOSTS, rate=plan.rate, seconds=plan.seconds, seed=plan.seed)
        module = h2_availability_load if plan.http2 else availability_load
        if plan.http2:
            beside = await until_the_end.enter_async_context(
                again_and_again(*H2LOAD, f"http://127.0.0.1:{edge.port}/0/0")
            )
        async with running_load(load, directory, module.__name__) as generator:
            await asyncio.sleep(plan.seconds * BEFORE)
            await scene.play(Play(edge, monitor, plan.seconds * MEANWHILE, held, home, until_the_end))
            monitor.mark("the end")
            generator.send_signal(signal.SIGUSR1)
    # By now all has been seen that was to be.
    if plan.http2:
        lost = _arrived_from_h2load(log) - beside.succeeded
        monitor.expect(
            beside.succeeded > 0 and lost <= 0, f"h2load lost {lost} of {lost + beside.succeeded} streams"
        )
    return _judge(scene, monitor, result_of(generator, directory))


def _arrived_from_h2load(log: Path) -> int:
    """Streams of h2load in the access log of an edge that has ended."""
    return sum(msgspec.json.decode(line)["host"] == H2LOAD_HOST for line in log.read_bytes().splitlines())


def _judge(scene: Scene, monitor: Monitor, load_result: AvailabilityResult) -> Line:
    latencies = sorted(1e3 * (completed.seen - completed.due) for completed in load_result.completed)
    if not latencies:
        raise BenchFailed(f"{scene.name}: no request was completed: {Counter(f.kind for f in load_result.faults)}")
    excused = [fault for fault in load_result.faults if monitor.excuses(fault)]
    return Line(
        scene=scene.name,
        goal=scene.goal,
        offered=load_result.offered,
        completed=len(load_result.completed),
        latencies_ms=[latencies[len(latencies) // 2], p99(latencies), latencies[-1]],
        late_p99_ms=p99(load_result.late_ms),
        lost=[fault for fault in load_result.faults if fault not in excused],
        excused=excused,
        complaints=[*monitor.complaints, *monitor.complaints_about(load_result)],
        marks=monitor.marks,
    )


@asynccontextmanager
async def _backend(directory: Path) -> AsyncIterator[str]:
    """Gives the URL of the core API."""
    url_file = directory / "core-api-url"
    backend = spawn("bench.stubs.echo_backend", directory, url_file)
    try:
        if not await until(lambda: url_file.exists() or backend.ended.is_set()) or not url_file.exists():
            raise BenchFailed(f"the backend did not come up: {backend.last_words()}")
        yield url_file.read_text()
    finally:
        backend.kill()
        await backend.ended.wait()
