"""The report of `intruder`, and the files of root that must not change."""

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from bench.report import Fact, none_missed, table, verdict

MIB = 1 << 20
GROWTH_GOAL = 20 * MIB


@dataclass(slots=True)
class IntruderReport:
    """What was tried, and what came of it."""

    facts: list[Fact] = field(default_factory=list)
    grown: dict[str, dict[str, int]] = field(default_factory=dict)
    "Bytes by which each process was larger at most, by act."

    @property
    def growth_is_good(self) -> bool:
        return all(grown <= GROWTH_GOAL for processes in self.grown.values() for grown in processes.values())

    @property
    def good(self) -> bool:
        return none_missed(self.facts) and self.growth_is_good

    def text(self) -> str:
        lines = []
        for fact in self.facts:
            goal = "" if fact.met is None else f"  [{fact.goal}: {verdict(met=fact.met)}]"
            lines.append(f"{fact.what}: {fact.seen}{goal}")
        titles = sorted({title for processes in self.grown.values() for title in processes})
        growth = [
            (act, *(f"{processes.get(title, 0) / MIB:.1f}" for title in titles))
            for act, processes in self.grown.items()
        ]
        return "\n\n".join(
            (
                "\n".join(lines),
                table(("MiB grown at most", *titles), growth)
                + f"\n<= {GROWTH_GOAL // MIB} MiB: {verdict(met=self.growth_is_good)}",
            )
        )


class State(NamedTuple):
    """Of a file."""

    user: int
    group: int
    mode: int
    content: bytes | list[str]

    def __str__(self) -> str:
        return f"{self.user}:{self.group} {self.mode:o}"


class Victims:
    """Files of root that nobody else may touch."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.paths: list[Path] = []
        for name, mode in (("secret", 0o600), ("shadow", 0o640), ("program", 0o755)):
            path = directory / name
            path.write_text(f"this is {name}\n")
            path.chmod(mode)
            self.paths.append(path)
        folder = directory / "folder"
        folder.mkdir(mode=0o700)
        self.paths.append(folder)
        self._before = {path: self._state(path) for path in self.paths}

    @staticmethod
    def _state(path: Path) -> "State":
        status = path.stat()
        content: bytes | list[str] = sorted(os.listdir(path)) if path.is_dir() else path.read_bytes()
        return State(status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode), content)

    def changed(self) -> list[str]:
        """The names of those that are different, each with what they were and are."""
        now = {path: self._state(path) for path in self.paths}
        return [
            f"{path.name}: {self._before[path]} -> {now[path]}"
            for path in self.paths
            if now[path] != self._before[path]
        ]

    def restore(self) -> None:
        for path in self.paths:
            before = self._before[path]
            os.chown(path, before.user, before.group)
            path.chmod(before.mode)
            if isinstance(before.content, bytes):
                path.write_bytes(before.content)
