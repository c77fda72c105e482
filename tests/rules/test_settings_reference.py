"""config/styx.yaml is up to date, and reading it gives the defaults."""

from itertools import pairwise
from pathlib import Path

from edge.rules.settings import Address, CoreApiSettings, ListenerSettings, Settings
from edge.rules.settings.file import parse
from edge.rules.settings.reference import WIDTH, render

REFERENCE = Path(__file__).parents[2] / "config" / "styx.yaml"


def test_the_file_in_config_is_up_to_date() -> None:
    made = "python -m edge.rules.settings.reference > config/styx.yaml"
    assert REFERENCE.read_text() == render(), f"generate it with: {made}"


def test_reading_the_reference_gives_the_defaults() -> None:
    assert parse(render(), name="styx.yaml", environ={}) == Settings(
        listeners=(ListenerSettings(address=Address("127.0.0.1", 8080)),),
        core_api=CoreApiSettings(url="http://127.0.0.1:9900"),
    )


def test_every_setting_has_a_comment_above_it() -> None:
    lines = render().splitlines()
    assert max(map(len, lines)) <= WIDTH
    for above, line in pairwise(lines):
        if line and not line.lstrip().startswith("#"):
            assert above.lstrip().startswith("#") or above.endswith(":"), line
