"""How findings are written, and counted."""

from edge.rules.core_api.contract_findings import fault, findings_text, has_faults, note, ok, reported, warning


def test_each_finding_has_its_remedy_and_all_are_counted() -> None:
    found = [
        ok("a", "fine"),
        warning("b", "slow", "Be fast."),
        warning("c", "late", "Hurry."),
        fault("d", "wrong", "No."),
    ]
    lines = findings_text(found).splitlines()
    assert lines[0] == "ok      fine [a]"
    assert lines[1:3] == ["warning slow [b]", "        -> Be fast."]
    assert lines[-1] == "1 fault, 2 warnings"


def test_nothing_wrong_is_said_as_well() -> None:
    assert findings_text([ok("a", "fine")]).endswith("\nno faults\n")
    assert not has_faults([ok("a", "fine"), note("b", "x"), warning("c", "y", "z")])
    assert has_faults([fault("a", "b", "c")])


def test_lines_are_short_and_cannot_steer_a_terminal() -> None:
    text = findings_text([fault("a", "word " * 60 + "\x1b[31m\x07", "do " * 60)])
    assert max(map(len, text.splitlines())) <= 110
    assert "\x1b" not in text
    assert "\x07" not in text


def test_programs_get_names() -> None:
    assert reported([fault("a", "b", "c")]) == [{"severity": "fault", "check": "a", "words": "b", "remedy": "c"}]
