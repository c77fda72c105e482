"""The report of a run of the fuzzer."""

from collections import Counter
from dataclasses import dataclass, field

import msgspec

from bench.report import table, verdict

MIB = 1 << 20
GOAL = 16 * MIB
"Most growth of the resident memory after the warm-up."
KEPT = 5
"Findings of one kind that are reported; all are counted."
TOLD = 500
"Characters of the words of one."


class Finding(msgspec.Struct):
    """Something that must not be, and the file with the message, if it was one."""

    kind: str
    words: str
    number: int = -1
    file: str = ""


@dataclass(slots=True)
class FuzzReport:
    """What was sent, and what was found."""

    seed: int
    seconds: float
    messages: Counter[str] = field(default_factory=Counter)
    "By kind."
    statuses: Counter[str] = field(default_factory=Counter)
    arrived: int = 0
    "Requests that reached the backend."
    honest: int = 0
    "Legal requests that got the response they must get."
    findings: list[Finding] = field(default_factory=list)
    found: Counter[str] = field(default_factory=Counter)
    "How often, by kind; of each kind only a few are kept as findings."
    samples: list[int] = field(default_factory=list)
    "Resident memory, every second after the warm-up."
    log_lines: int = 0
    "Lines in the event log below the level error."

    @property
    def growth(self) -> int:
        return max(self.samples) - self.samples[0] if self.samples else 0

    @property
    def sent(self) -> int:
        return self.messages.total()

    @property
    def good(self) -> bool:
        return not self.found and self.growth <= GOAL and self.honest > 0

    def text(self) -> str:
        kinds = ", ".join(f"{times} {kind}" for kind, times in sorted(self.messages.items()))
        rows = [
            ("messages", f"{self.sent} ({kinds})", "", ""),
            ("messages a second", f"{self.sent / self.seconds:.0f}", "", ""),
            ("requests at the backend", str(self.arrived), "", ""),
            ("legal requests completed", str(self.honest), "", ""),
            ("findings", str(self.found.total()), "0", verdict(met=not self.found)),
            (
                "growth of VmRSS",
                f"{self.growth / MIB:.2f} MiB",
                f"<= {GOAL // MIB} MiB",
                verdict(met=self.growth <= GOAL),
            ),
            ("warnings in the log", str(self.log_lines), "", ""),
        ]
        statuses = table(
            ("status", "times"), [(status, str(times)) for status, times in self.statuses.most_common()]
        )
        found = "".join(f"\n{f.kind} {f.number}: {f.words[:TOLD]}\n  {f.file}" for f in self.findings)
        heading = (f"fuzz, seed {self.seed}", "seen", "goal", "")
        return "\n\n".join((table(heading, rows), statuses + (f"\n{found}" if found else "")))
