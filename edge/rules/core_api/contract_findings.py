"""The findings of a check of a core API, and their output as text."""

from collections.abc import Iterable, Mapping
from enum import Enum
from textwrap import wrap
from typing import Final, NamedTuple

WIDTH: Final = 110
"Columns of the text."


class Severity(Enum):
    """How bad a finding is."""

    OK = "ok"
    NOTE = "note"
    "Allowed, but worth knowing."
    WARNING = "warning"
    "styx works with it, but worse than it could."
    FAULT = "fault"
    "styx does not do with it what the platform wants."


class ContractFinding(NamedTuple):
    """One finding."""

    severity: Severity
    check: str
    "Stable name of the check, for programs."
    words: str
    remedy: str = ""
    'What to do about it; "" = nothing.'


class CoreApiReply(NamedTuple):
    """A response of a core API, or why there was none."""

    status: int = 0
    "0 = there was no response."
    headers: Mapping[str, str] = {}
    "By name in lower case."
    body: bytes = b""
    seconds: float = 0.0
    "From the beginning of the request to the end of the response."
    error: str = ""
    'Why there was no response, or not all of it; "" = it is complete.'


def ok(check: str, words: str) -> ContractFinding:
    """A check that is passed."""
    return ContractFinding(Severity.OK, check, words)


def note(check: str, words: str) -> ContractFinding:
    """Something that is allowed, but worth knowing."""
    return ContractFinding(Severity.NOTE, check, words)


def warning(check: str, words: str, remedy: str) -> ContractFinding:
    """Something that could be better."""
    return ContractFinding(Severity.WARNING, check, words, remedy)


def fault(check: str, words: str, remedy: str) -> ContractFinding:
    """Something that is wrong."""
    return ContractFinding(Severity.FAULT, check, words, remedy)


def has_faults(findings: Iterable[ContractFinding]) -> bool:
    """Whether any of them is a fault."""
    return any(finding.severity is Severity.FAULT for finding in findings)


def counts_text(findings: Iterable[ContractFinding]) -> str:
    """How many there are of each severity, for people."""
    listed = list(findings)
    counts = [
        f"{count} {severity.value}{'' if count == 1 else 's'}"
        for severity in (Severity.FAULT, Severity.WARNING, Severity.NOTE)
        if (count := sum(finding.severity is severity for finding in listed))
    ]
    return ", ".join(counts) if counts else "no faults"


def finding_text(finding: ContractFinding) -> str:
    """One finding for people, in lines of at most WIDTH, with the remedy below it."""
    head = f"{finding.severity.value:8}"
    words = wrap(_printable(f"{finding.words} [{finding.check}]"), WIDTH - len(head), break_long_words=False)
    remedy = wrap(finding.remedy, WIDTH - len(head) - 3, break_long_words=False)
    indent = " " * len(head)
    lines = [
        *(f"{head if n == 0 else indent}{line}" for n, line in enumerate(words)),
        *(f"{indent}{'-> ' if n == 0 else '   '}{line}" for n, line in enumerate(remedy)),
    ]
    return "\n".join(lines)


def _printable(text: str) -> str:
    """Text of a stranger for a terminal: without control characters, which could steer it."""
    return "".join(character if character.isprintable() else "?" for character in text)


def reported(findings: Iterable[ContractFinding]) -> list[dict[str, str]]:
    """The findings for programs, as JSON can hold them."""
    return [{**finding._asdict(), "severity": finding.severity.value} for finding in findings]
