"""How findings are written, and counted."""

from edge.rules.core_api.contract_findings import (
    counts_text,
    fault,
    finding_text,
    has_faults,
    note,
    ok,
    reported,
    warning,
)


def test_a_finding_has_its_remedy_below_it() -> None:
    assert finding_text(ok("a", "fine")) == "ok      fine [a]"
    assert finding_text(warning("b", "slow", "Be fast.")) == "warning slow [b]\n        -> Be fast."


def test_they_are_counted() -> None:
    found = [
        ok("a", "fine"),
        warning("b", "slow", "Hurry."),
        warning("c", "late", "Hurry."),
        fault("d", "wrong", "No."),
    ]
    assert counts_text(found) == "1 fault, 2 warnings"
    assert counts_text([ok("a", "fine")]) == "no faults"
    assert not has_faults([ok("a", "fine"), note("b", "x"), warning("c", "y", "z")])
    assert has_faults([fault("a", "b", "c")])


def test_lines_are_short_and_cannot_steer_a_terminal() -> None:
    text = finding_text(fault("a", "word " * 60 + "\x1b[31m\x07", "do " * 60))
    assert max(map(len, text.splitlines())) <= 110
    assert "\x1b" not in text
    assert "\x07" not in text


def test_programs_get_names() -> None:
    assert reported([fault("a", "b", "c")]) == [{"severity": "fault", "check": "a", "words": "b", "remedy": "c"}]
