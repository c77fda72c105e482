"""The options of `python -m bench`: which fields of the plans they set."""

from pathlib import Path

import pytest

from bench.__main__ import BENCHES


def test_an_option_sets_the_field_of_its_name():
    plan = BENCHES["speed"].planned({"rounds": 2, "seconds": 1.5})
    assert (plan.rounds, plan.seconds) == (2, 1.5)
    assert plan.connections == BENCHES["speed"].plan.connections


def test_an_option_without_a_field_is_of_no_effect():
    assert BENCHES["memory"].planned({"rounds": 2, "seed": 3}) == BENCHES["memory"].plan


@pytest.mark.parametrize(
    ("bench", "option", "field"),
    [
        ("outages", "scene", "scenes"),
        ("balance", "scenario", "scenarios"),
        ("balance", "balancer", "only"),
        ("report", "balancer", "proxies"),
        ("report", "case", "cases"),
    ],
)
def test_an_option_may_set_a_field_of_another_name(bench, option, field):
    assert getattr(BENCHES[bench].planned({option: ("one",)}), field) == ("one",)


def test_scenes_of_other_benches_are_not_played_by_operate():
    assert BENCHES["operate"].planned({"scene": ("floods",)}) == BENCHES["operate"].plan


def test_what_is_given_counts_more_than_what_is_short():
    plan = BENCHES["report"].planned({"short": True, "rounds": 4})
    assert (plan.rounds, plan.hosts) == (4, BENCHES["report"].plan.shorter().hosts)
    assert BENCHES["fuzz"].planned({"replay": Path("message.json")}).seconds < BENCHES["fuzz"].plan.seconds
