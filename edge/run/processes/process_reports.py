"""Reads the state of the processes of styx on this machine from /proc, for a support dump when none of them
replies."""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from edge.run.processes.stacks import NoStacks, read_stacks

TITLE: Final = "styx: "
FILES: Final = ("status", "limits", "wchan", "syscall", "cgroup", "oom_score_adj")
"Files of /proc/PID that are reported. Not `environ` and `cmdline`: they may hold secrets."
STACKS_TIMEOUT: Final = 2.0


class StyxProcessId(NamedTuple):
    """A process of styx."""

    pid: int
    parent: int
    title: str
    "Such as `worker 0`."


def styx_processes(proc: Path = Path("/proc")) -> list[StyxProcessId]:
    """All processes of all styxes on this machine, the masters first."""
    found = []
    for directory in proc.iterdir():
        with suppress(OSError, ValueError, IndexError):
            pid = int(directory.name)
            title = (directory / "cmdline").read_bytes().rstrip(b"\0 ").decode(errors="replace")
            if title.startswith(TITLE):
                parent = int((directory / "stat").read_text().rpartition(")")[2].split()[1])
                found.append(StyxProcessId(pid, parent, title.removeprefix(TITLE)))
    return sorted(found, key=lambda process: (not process.title.startswith("master"), process.pid))


def of_one_edge(processes: list[StyxProcessId], member: int) -> list[StyxProcessId]:
    """Those that belong to the same edge as the process with this id: its master, and all children of that."""
    parents = {process.pid: process.parent for process in processes}
    master = parents.get(member, 0)
    return [process for process in processes if master in (process.pid, process.parent)]


def report(process: StyxProcessId) -> tuple[str, str]:
    """What is known of a process, as text, and why its stacks are not in it; "" = they are."""
    missing = ""
    try:
        stacks = read_stacks(process.pid, STACKS_TIMEOUT)
    except NoStacks as error:
        stacks, missing = f"(missing: {error})\n", str(error)
    parts = [("stacks of all threads", stacks), ("open files", _open_files(process.pid))]
    parts += [(name, _read(Path(f"/proc/{process.pid}/{name}"))) for name in FILES]
    return "\n".join(f"== {name}\n{text.rstrip()}\n" for name, text in parts), missing


def _open_files(pid: int) -> str:
    """How many there are of each kind."""
    kinds: Counter[str] = Counter()
    try:
        for kind in _kinds(pid):
            kinds[kind] += 1
    except OSError as error:
        return f"(missing: {error.strerror})"
    return "\n".join(f"{count:6} {kind}" for kind, count in kinds.most_common(50))


def _kinds(pid: int) -> Iterator[str]:
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            yield os.readlink(descriptor).partition(":[")[0]


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError as error:
        return f"(missing: {error.strerror})"
