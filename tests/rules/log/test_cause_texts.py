"""Each cause, phase and blame is explained, and docs/something_is_wrong.md is up to date."""

from pathlib import Path

from edge.rules.log.cause_texts import BLAMES, PHASES, TEXTS, render
from edge.rules.outcomes import VERDICTS, Blame, Cause, Phase

PAGE = Path(__file__).parents[3] / "docs" / "something_is_wrong.md"


def test_the_page_of_causes_is_up_to_date() -> None:
    made = "python -m edge.rules.log.cause_texts > docs/something_is_wrong.md"
    assert PAGE.read_text() == render(), f"make it again: {made}"


def test_each_cause_phase_and_blame_has_its_text() -> None:
    assert TEXTS.keys() == set(Cause)
    assert PHASES.keys() == set(Phase)
    assert BLAMES.keys() == set(Blame)
    text = PAGE.read_text()
    for cause, verdict in VERDICTS.items():
        assert f"| `{cause.value}` |" in text
        assert not verdict.reason or f"\n### {verdict.reason}\n" in text
