"""CPU and memory of a process and all its descendants, as the kernel counts them."""

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.lab.programs import BenchFailed

TICK = 1 / os.sysconf("SC_CLK_TCK")
KIB = 1024


@dataclass(frozen=True, slots=True)
class Memory:
    """In bytes."""

    resident: int
    "VmRSS: everything that lies in memory."
    anonymous: int
    "RssAnon: the part of it that is heap and stacks."


@dataclass(frozen=True, slots=True)
class Footprint:
    """Of one process, in bytes. Proportional: a page counts in equal shares for the processes that have it."""

    resident: int
    proportional: int
    "Pss: with files that it maps, such as the interpreter, which any other process of the machine may share."
    proportional_heap: int
    "Pss_Anon: heap and stacks only."
    own: int
    "Uss: what would be free without it."
    descriptors: int


@dataclass(frozen=True, slots=True)
class Cores:
    """Who runs where, so that a proxy has a core of its own."""

    proxy: int
    rest: frozenset[int]

    @classmethod
    def split(cls) -> "Cores":
        """Raises BenchFailed when there is only one core."""
        first, *rest = sorted(os.sched_getaffinity(0))
        if not rest:
            raise BenchFailed("needs two cores: one for the proxy, one for wrk and the backends")
        return cls(first, frozenset(rest))

    @contextlib.contextmanager
    def reserved(self) -> Iterator[None]:
        """This process and those it starts meanwhile keep off the proxy's core, unless pinned to it."""
        usual = os.sched_getaffinity(0)
        os.sched_setaffinity(0, self.rest)
        try:
            yield
        finally:
            os.sched_setaffinity(0, usual)


def cpu_seconds(pid: int) -> float:
    """User and system time so far. Children that ended count once they are waited for."""
    return sum(_cpu_ticks(member) for member in family(pid)) * TICK


def run_seconds(pid: int) -> float:
    """Time on a core so far, exact to the nanosecond, of all that run now: what has ended is forgotten."""
    threads = (thread for member in family(pid) for thread in Path(f"/proc/{member}/task").glob("*"))
    return sum(int((_read(thread / "schedstat") or "0").split()[0]) for thread in threads) / 1e9


def memory(pid: int) -> Memory:
    """Now."""
    statuses = [_read(Path(f"/proc/{member}/status")) for member in family(pid)]
    return Memory(
        sum(_kibibytes("VmRSS", status) for status in statuses),
        sum(_kibibytes("RssAnon", status) for status in statuses),
    )


def footprint(pid: int) -> Footprint | None:
    """Now; None = it has ended."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        descriptors = len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return None
    own = _kibibytes("Private_Clean", rollup) + _kibibytes("Private_Dirty", rollup)
    resident, proportional, heap = (_kibibytes(name, rollup) for name in ("Rss", "Pss", "Pss_Anon"))
    return Footprint(resident, proportional, heap, own, descriptors) if resident else None


def family(pid: int) -> list[int]:
    """The process and all its descendants."""
    members = [pid]
    for member in members:  # grows while it is walked
        for thread in Path(f"/proc/{member}/task").glob("*"):
            members.extend(int(child) for child in _read(thread / "children").split())
    return members


def _cpu_ticks(pid: int) -> int:
    # The name, field 2, may hold spaces and parentheses; utime, stime, cutime, cstime are fields 14 to 17.
    fields = _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15])


def _kibibytes(name: str, status: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) * KIB if found else 0


def _read(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text()
    return ""  # it ended just now
