"""Suggestions for a name that is not known."""

import time

import pytest

from edge.rules.nearest_names import MOST_COMPARED, NearestNames, nearest_names

NAMES = ["acme/live", "acme/dev", "shop/live", "srv-192", "srv-193", "srv-201"]


@pytest.mark.parametrize(
    ("wrong", "first"),
    [("acme/liev", "acme/live"), ("ACME/LIVE", "acme/live"), ("srv192", "srv-192"), ("shop/life", "shop/live")],
)
def test_the_most_similar_name_comes_first(wrong: str, first: str) -> None:
    assert nearest_names(wrong, NAMES)[0] == first


def test_nothing_is_suggested_that_is_not_alike() -> None:
    assert nearest_names("zzzzzz", NAMES) == []
    assert nearest_names("x", []) == []
    assert nearest_names("", NAMES) == []


def test_each_name_is_suggested_once_and_few_of_them() -> None:
    assert nearest_names("srv-19", NAMES * 3) == ["srv-192", "srv-193", "srv-201"]
    assert len(nearest_names("srv-19", [f"srv-19{n}" for n in range(20)])) == 3


def test_the_right_one_is_found_among_many_in_any_order() -> None:
    many = [f"site-{number}/live" for number in range(20_000)]
    search = NearestNames("site-12345/liev")
    for at in range(0, len(many), 500):
        search.look_at(many[at : at + 500])
    assert search.nearest[0] == "site-12345/live"
    assert len(search._best) == MOST_COMPARED


def test_a_hundred_thousand_names_take_moderate_time() -> None:
    many = [f"customer-{number}/live/{number:x}" for number in range(100_000)]
    began = time.process_time()
    nearest_names("customer-77777/live/12fd1x", many)
    assert time.process_time() - began < 5.0
