"""The lifetime of a response of the core API, by its Cache-Control."""

import pytest

from edge.rules.routing.freshness import Lifetime, lifetime_of

DEFAULT = Lifetime(60.0, 600.0, 86400.0)


@pytest.mark.parametrize(
    ("cache_control", "lifetime"),
    [
        pytest.param(None, DEFAULT, id="absent"),
        pytest.param("", DEFAULT, id="empty"),
        pytest.param("max-age=5", Lifetime(5, 600, 86400), id="one word"),
        pytest.param(
            "max-age=5, stale-while-revalidate=6, stale-if-error=7", Lifetime(5, 6, 7), id="all three of them"
        ),
        pytest.param('max-age="5"', Lifetime(5, 600, 86400), id="quoted"),
        pytest.param("MAX-AGE=5,Stale-If-Error=0", Lifetime(5, 600, 0), id="any case, no blank"),
        pytest.param("private, max-age=5, foo=bar", Lifetime(5, 600, 86400), id="words that we do not know"),
        pytest.param("max-age=0", Lifetime(0, 600, 86400), id="zero is a number"),
        pytest.param("no-store", Lifetime(0, 0, 86400), id="no-store"),
        pytest.param("max-age=5, no-cache", Lifetime(0, 0, 86400), id="no-cache goes before max-age"),
        pytest.param("max-age", DEFAULT, id="a word without its number"),
        pytest.param("max-age=", DEFAULT, id="nothing after ="),
        pytest.param("max-age=-5", DEFAULT, id="negative"),
        pytest.param("max-age=5.5", DEFAULT, id="fraction"),
        pytest.param("max-age=soon, stale-if-error=9", Lifetime(60, 600, 9), id="one is malformed"),
        pytest.param("max-age = 5", DEFAULT, id="blanks around ="),
        pytest.param('max-age="5', DEFAULT, id="half quoted"),
        pytest.param("s-max-age=5", DEFAULT, id="a longer word"),
        pytest.param("max-age=" + "9" * 400, DEFAULT, id="absurd"),
        pytest.param("max-age=604801", Lifetime(604800, 600, 86400), id="at most a week"),
        pytest.param("stale-if-error=9999999999", Lifetime(60, 600, 604800), id="a slip of the pen"),
    ],
)
def test_lifetime_of(cache_control: str | None, lifetime: Lifetime) -> None:
    assert lifetime_of(cache_control, DEFAULT) == lifetime
