"""The figures of the report, as they are written to JSON and kept for each release."""

import os
import platform
import re
import sys
import sysconfig
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import msgspec

from bench.report import ratios, table

FORMAT = 1
"Of the JSON file."


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One proxy, one case, one round."""

    cpu_us: float
    "CPU per request, in microseconds."
    busy: float
    "Cores that the proxy used."
    rate: float
    "Requests per second."
    p50_ms: float
    p99_ms: float


class LatencyPoint(msgspec.Struct, frozen=True, kw_only=True):
    """One proxy at one rate, in one round."""

    rate: float
    "Requests per second that were due."
    p50_ms: float | None
    "None = overloaded: not all were completed."
    p99_ms: float | None
    late_p99_ms: float
    "See PacedResult."


class MemoryPoint(msgspec.Struct, frozen=True, kw_only=True):
    """Resident memory of a proxy with so many idle connections."""

    connections: int
    resident: int
    "Bytes, of all its processes."


class Streams(msgspec.Struct, frozen=True, kw_only=True):
    """A proxy with many event streams."""

    count: int
    bytes_each: float
    "Growth of its resident memory for each."
    cpu_us: float
    "CPU per event, in microseconds."


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Where it was measured."""

    processor: str
    cores: int
    memory_gib: float
    system: str
    kernel: str
    python: str

    @classmethod
    def this(cls) -> "Machine":
        """The one that this process runs on."""
        information = Path("/proc/cpuinfo").read_text()
        model = re.search(r"^model name\s*:\s*(.+)$", information, re.MULTILINE)
        release = platform.freedesktop_os_release()
        # Distributions may pass these options by other ways: without them, nothing is known.
        options = sysconfig.get_config_var("CONFIG_ARGS") or ""
        optimized = " with PGO and LTO" if "--enable-optimizations" in options and "lto" in options else ""
        return cls(
            processor=model[1] if model else platform.machine(),
            cores=os.cpu_count() or 1,
            memory_gib=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / (1 << 30),
            system=release.get("PRETTY_NAME", "Linux"),
            kernel=platform.release().partition("-")[0],
            python=f"{sys.version.split()[0]}{optimized}",
        )


class ComparisonReport(msgspec.Struct, kw_only=True):
    """Everything that was measured. Keys of the outer dicts are keys of CASES, those of the inner ones proxies."""

    machine: Machine
    versions: dict[str, str]
    "By proxy, in the order of the page."
    rounds: int
    seconds: float
    format: int = FORMAT
    measured: str = msgspec.field(default_factory=lambda: f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC")
    notes: list[str] = []
    loads: list[float] = []
    "Load average of one minute before each round."
    cases: dict[str, dict[str, list[Sample]]] = {}
    latency: dict[str, list[LatencyPoint]] = {}
    memory: dict[str, list[MemoryPoint]] = {}
    streams: dict[str, Streams] = {}
    missed: list[str] = []
    "Goals that were not met."

    @property
    def good(self) -> bool:
        return not self.missed

    def text(self) -> str:
        heading = ("CPU per request, µs", *self.versions)
        rows = [(key, *(self._cell(key, proxy) for proxy in self.versions)) for key in self.cases]
        return "\n".join([table(heading, rows), *self.notes, *(f"NOT MET: {goal}" for goal in self.missed)])

    def _cell(self, case: str, proxy: str) -> str:
        costs = self.costs(case, proxy)
        return f"{median(costs):.1f} ({min(costs):.1f}-{max(costs):.1f})" if costs else ""

    def costs(self, case: str, proxy: str) -> list[float]:
        """CPU per request by round, in microseconds; empty = not measured."""
        return [sample.cpu_us for sample in self.cases.get(case, {}).get(proxy, [])]

    def ratios(self, case: str, proxy: str, rival: str) -> list[float]:
        """CPU per request as a multiple of the rival's in the same round; empty = one was not measured."""
        ours, theirs = self.costs(case, proxy), self.costs(case, rival)
        return ratios(ours, theirs) if len(ours) == len(theirs) else []

    def per_connection(self, proxy: str) -> float | None:
        """Bytes of resident memory for each idle connection; None = not measured."""
        points = self.memory.get(proxy, [])
        if len(points) < 2:
            return None
        first, last = points[0], points[-1]
        return (last.resident - first.resident) / (last.connections - first.connections)
