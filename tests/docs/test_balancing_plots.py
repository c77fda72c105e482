"""The plots in docs/balancing.md are those that the simulation makes."""

import pytest

from tests.support.drawings import DOCS
from tests.support.site.balancing_plots import PLOTS, path_of, render

PAGE = DOCS / "balancing.md"


def test_each_plot_is_on_the_page_with_a_text_for_those_who_cannot_see_it() -> None:
    drawn = {path.name for path in (DOCS / "drawings").glob("balancing-*.svg")}
    assert drawn == {path_of(name).name for name in PLOTS}
    for name in drawn:
        before, _, _ = PAGE.read_text().partition(f"](drawings/{name})")
        assert len(before.rpartition("![")[2]) > 20


@pytest.mark.long
@pytest.mark.timeout(500)
@pytest.mark.parametrize("name", PLOTS)
def test_the_simulation_makes_the_same_plot_again(name: str) -> None:
    assert path_of(name).read_text() == render(PLOTS[name]), "python -m tests.support.site.balancing_plots"
