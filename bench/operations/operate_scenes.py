"""What the operator does in each scene, and what the requests may feel of it."""

import asyncio
import shutil
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from bench.lab.availability_load import AvailabilityResult, Fault
from bench.lab.servers import ROOT, until
from bench.operations.operated_edge import Edge, operated, send, stop

DRAIN = {"delay": "1s", "timeout": "5s"}
WATCHDOG = 2.0
"Seconds, in the scene in which a worker stands still."
USUAL: dict[str, Any] = {
    "workers": 2,
    "edge_name": "bench",
    "drain": DRAIN,
    "access_log": {"path": "/dev/null"},
    "log": {"format": "console"},
}
AT_ONCE = 0.2
"Seconds after which nobody feels the end of a process any more."
BACK = 2.0
"Seconds until what was killed is there again; a worker that stood still: beyond `watchdog`."
SLUGGISH = 1.0
"Seconds that an answer of a worker may take while the other one stands still."
GONE = 5.0 + 5.0 + 2.0
"Seconds until a master has ended after its successor serves: `drain.timeout`, what its workers have beyond, ours."


NEVER = 12.0
"Seconds after which a new version of which a worker is not ready never will be; 40 would hold up the scene."


class Excuse(NamedTuple):
    """Whose requests may fail: those on connections that a process held which was ended, and until when."""

    clients: frozenset[int]
    until: float


@dataclass
class Witness:
    """What was done and seen while the load went on."""

    marks: list[tuple[float, str]] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    excused: list[Excuse] = field(default_factory=list)
    undisturbed: tuple[frozenset[int], float, float] | None = None
    "Connections on which answers had to come from this moment to that."

    def mark(self, what: str) -> None:
        self.marks.append((time.monotonic(), what))

    def expect(self, so: bool, complaint: str) -> None:
        if not so:
            self.complaints.append(complaint)

    def excuses(self, fault: Fault) -> bool:
        """Whether the goal allows it."""
        return any(fault.port in excuse.clients and fault.seen <= excuse.until for excuse in self.excused)

    def complaints_about(self, load_result: AvailabilityResult) -> list[str]:
        """What the answers show that no fault does."""
        if self.undisturbed is None:
            return []
        clients, begin, end = self.undisturbed
        took = [a.seen - a.due for a in load_result.answered if a.port in clients and begin < a.seen < end]
        if not took:
            return ["nothing was answered on connections of the other worker meanwhile"]
        slowest = max(took)
        return [f"the other worker took {slowest:.1f} s for an answer"] if slowest > SLUGGISH else []


@dataclass
class Play:
    """What a scene has at hand."""

    edge: Edge
    witness: Witness
    seconds: float
    "For all that is done."
    held: socket.socket | None
    "The listening socket, when it is not the edge's own."
    home: Path
    "Where the code of the edge lies."
    until_the_end: AsyncExitStack
    "For what must live for as long as the load."

    async def command(self, what: str, label: str, *, code: int = 0) -> str:
        """Have it done ("reload", "invalidate all"); it must exit like this. What it said."""
        self.witness.mark(f"{what}: {label}")
        got, said = await self.edge.command(*what.split())
        self.witness.expect(got == code, f"styx {what} ({label}): exit status {got}: {said}")
        return said

    async def serve_again(self, what: str, workers: int, patience: float = BACK, without: int = 0) -> float:
        """Wait until so many workers serve, `without` not among them; the seconds that it took."""
        began = time.monotonic()
        while len(pids := await self.edge.serving()) != workers or without in pids:
            if time.monotonic() > began + patience:
                self.witness.complaints.append(f"{what}: {len(pids)} workers serve after {patience:g} s")
                break
            await asyncio.sleep(0.02)
        return time.monotonic() - began


@dataclass(frozen=True)
class Scene:
    """One."""

    name: str
    goal: str
    play: Callable[[Play], Awaitable[None]]
    more: dict[str, Any] = field(default_factory=dict)
    holds_socket: bool = False
    "The listening socket belongs to us, who hand it over like systemd."
    copied: bool = False
    "It runs from a copy of the package, which the scene may break."

    @property
    def settings(self) -> dict[str, Any]:
        return USUAL | self.more

    def home(self, directory: Path) -> Path:
        """Where the code lies that is run."""
        if not self.copied:
            return ROOT
        home = directory / "home"
        shutil.copytree(ROOT / "edge", home / "edge", ignore=shutil.ignore_patterns("__pycache__"))
        _replace(home / "edge/run/processes/upgrade.py", "READY_TIMEOUT = 40.0", f"READY_TIMEOUT = {NEVER}")
        return home

    @contextmanager
    def socket(self) -> Iterator[socket.socket | None]:
        """The listening one, if it is ours."""
        if not self.holds_socket:
            yield None
            return
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("127.0.0.1", 0))
            sock.listen(4096)
            yield sock


class Change(NamedTuple):
    """A new configuration."""

    label: str
    sections: dict[str, Any]
    workers: int


CHANGES = (
    Change("hot, timeouts", {"timeouts": {"keep_alive": "70s"}}, 2),
    Change("cold, 2 -> 3 workers", {"workers": 3}, 3),
    Change("hot, timeouts", {"timeouts": {"keep_alive": "60s"}}, 3),
    Change("cold, 3 -> 2 workers", {"workers": 2}, 2),
    Change("hot, limits", {"limits": {"requests_per_connection": 100}}, 2),
    Change("cold, via_name", {"forwarding": {"via_name": "edge-1"}}, 2),
    Change("hot, pool and retries", {"pool": {"idle_per_backend": 16}}, 2),
    Change("cold, access log", {"access_log": {"path": "access.log"}}, 2),
    Change("hot, drain", {"drain": {**DRAIN, "idle": "500ms"}}, 2),
    Change("cold, everything", {"forwarding": {"via_name": "edge-2"}, "limits": {}, "workers": 2}, 2),
)
SHORTEST = 1.2
"Seconds from one reload to the next."


async def reloads(play: Play) -> None:
    """As many of the ten as there is time for."""
    chosen = CHANGES[: max(2, int(play.seconds / SHORTEST))]
    for number, change in enumerate(chosen, 1):
        due = time.monotonic() + play.seconds / len(chosen)
        if "access_log" in change.sections:
            change.sections["access_log"]["path"] = str(play.edge.directory / "access.log")
        play.edge.configure(**change.sections)
        await play.command("reload", f"{number}, {change.label}")
        await play.serve_again(change.label, change.workers)
        await asyncio.sleep(max(0.0, due - time.monotonic()))


async def upgrade(play: Play) -> None:
    """Twice, for a master that was handed its sockets hands them on; the last one must know its business."""
    for label in ("first", "of the upgraded one"):
        due = time.monotonic() + play.seconds / 3
        before = play.edge.processes()
        await play.command("upgrade", label)
        await _takes_over(play, before["master"], label)
        await asyncio.sleep(max(0.0, due - time.monotonic()))
    play.edge.configure(forwarding={"via_name": "after-upgrade"})
    await play.command("reload", "after the upgrades")
    await play.serve_again("reload after the upgrades", 2)


async def _takes_over(play: Play, old: int, label: str) -> None:
    """The new master serves, and the old one ends."""
    pids = play.edge.processes()
    play.witness.expect(pids.get("master", old) != old, f"upgrade ({label}): the old master serves on")
    await play.serve_again(f"upgrade ({label})", 2)
    gone = until(lambda: not Path(f"/proc/{old}").exists(), GONE)
    task = asyncio.create_task(gone)

    async def see_it_gone() -> None:
        play.witness.expect(await task, f"upgrade ({label}): the old master is there after {GONE:g} s")

    play.until_the_end.push_async_callback(see_it_gone)


class Break(NamedTuple):
    """How a version is broken: in a file of the package, this becomes that."""

    label: str
    file: str
    text: str
    broken: str


BREAKS = (
    Break("syntax error", "run/master.py", "class Master:", "class Master"),
    Break(
        "one worker cannot start",
        "run/worker_process.py",
        "            worker.prepare()\n",
        "            worker.prepare()\n"
        "            if self._slot == 1:\n"
        "                await asyncio.sleep(0.5)\n"
        '                raise OSError(5, "broken on purpose")\n',
    ),
    Break(
        "one worker never ready",
        "run/worker_process.py",
        "            self._master.send(Ready())\n",
        "            if self._slot == 0:\n                self._master.send(Ready())\n",
    ),
)


def _replace(file: Path, text: str, by: str) -> str:
    """What was in the file before."""
    before = file.read_text()
    assert before.count(text) == 1, (file, text)
    file.write_text(before.replace(text, by))
    return before


async def broken_upgrade(play: Play) -> None:
    """The old one serves on; mended, the upgrade succeeds."""
    before = play.edge.processes()
    for broken in BREAKS:
        due = time.monotonic() + play.seconds / (1 + len(BREAKS))
        file = play.home / "edge" / broken.file
        good = _replace(file, broken.text, broken.broken)
        await play.command("upgrade", f"to a version with {broken.label}", code=1)
        file.write_text(good)
        alone = await until(lambda: play.edge.processes() == before, GONE)
        play.witness.expect(alone, f"{broken.label}: {play.edge.processes()} after {before}")
        await asyncio.sleep(max(0.0, due - time.monotonic()))
    await play.command("upgrade", "to the mended version")
    await _takes_over(play, before["master"], "mended")


async def replaced(play: Play) -> None:
    """SIGTERM for the one, another one on the same sockets, as a service manager has it."""
    assert play.held is not None
    play.witness.mark("SIGTERM for the first edge")
    send(play.edge.processes()["master"], signal.SIGTERM)
    second = operated("second", play.edge.directory, play.edge.settings, port=play.edge.port, sock=play.held)
    await play.until_the_end.enter_async_context(second)
    play.witness.mark("the second edge is ready")
    gone = await until(play.edge.subreaper.ended.is_set, 1.0 + GONE)
    play.witness.expect(gone, "the first edge did not end")
    play.witness.mark("the first edge has ended")


async def restarted(play: Play) -> None:
    """The next one is started when the one before has ended: what comes meanwhile waits in the socket."""
    assert play.held is not None
    play.witness.mark("SIGTERM for the edge")
    send(play.edge.processes()["master"], signal.SIGTERM)
    gone = await until(play.edge.subreaper.ended.is_set, 1.0 + GONE)
    play.witness.expect(gone, "the edge did not end")
    play.witness.mark("the edge has ended")
    again = operated("again", play.edge.directory, play.edge.settings, port=play.edge.port, sock=play.held)
    await play.until_the_end.enter_async_context(again)
    play.witness.mark("it is there again")


async def kill_worker(play: Play) -> None:
    """One, then the other, then the first again."""
    for slot in (0, 1, 0):
        due = time.monotonic() + play.seconds / 3
        pid = play.edge.workers()[slot]
        # It stands still while its connections are looked at, for 50 ms: so none comes between.
        await stop(pid)
        clients = play.edge.clients_of(pid)
        killed = send(pid, signal.SIGKILL)
        play.witness.mark(f"SIGKILL for worker {slot}, with {len(clients)} connections")
        play.witness.excused.append(Excuse(clients, killed + AT_ONCE))
        await play.serve_again(f"killed worker {slot}", 2, without=pid)
        await asyncio.sleep(max(0.0, due - time.monotonic()))


async def kill_admin(play: Play) -> None:
    """Three times."""
    for number in range(1, 4):
        due = time.monotonic() + play.seconds / 3
        send(play.edge.processes()["admin"], signal.SIGKILL)
        play.witness.mark(f"SIGKILL {number} for the admin process")
        await play.serve_again(f"killed admin process {number}", 2)
        await asyncio.sleep(max(0.0, due - time.monotonic()))


async def stop_worker(play: Play) -> None:
    """The watchdog has to see it."""
    stopped_one, other = play.edge.workers()
    stopped = await stop(stopped_one)
    play.witness.mark("SIGSTOP for worker 0")
    clients, others = play.edge.clients_of(stopped_one), play.edge.clients_of(other)
    await until(lambda: not Path(f"/proc/{stopped_one}/exe").exists(), WATCHDOG + BACK)
    died = time.monotonic()
    play.witness.mark(f"worker 0 is gone {died - stopped:.1f} s later")
    play.witness.excused.append(Excuse(clients, died + AT_ONCE))
    play.witness.undisturbed = (others, stopped + AT_ONCE, died)
    await play.serve_again("stopped worker", 2, stopped + WATCHDOG + BACK - died, without=stopped_one)
    play.witness.mark(f"two workers serve {time.monotonic() - stopped:.1f} s after the stop")


NONE = "0 lost"
SCENES = (
    Scene("reloads", f"{NONE}; each exits 0", reloads),
    Scene("upgrade", f"{NONE}; old master ends", upgrade),
    Scene("broken upgrade", f"{NONE}; exits 1, old serves on", broken_upgrade, copied=True),
    Scene("edge replaced", NONE, replaced, holds_socket=True),
    Scene("edge restarted", f"{NONE}; requests wait", restarted, holds_socket=True),
    Scene("worker killed", "only in flight on it; back in 2 s", kill_worker),
    Scene("admin killed", f"{NONE}; back in 2 s", kill_admin),
    Scene(
        "worker stopped",
        f"only those on it; replaced in {WATCHDOG + BACK:g} s",
        stop_worker,
        {"watchdog": f"{WATCHDOG:g}s"},
    ),
)
