"""Failed lookups of hostnames without a route: what is remembered, the pauses, and how many there are."""

from edge.rules.routing.lookup_failures import LookupFailures

LONGEST = 4.0


def test_a_failure_of_the_service_makes_no_pause() -> None:
    failures = LookupFailures()
    failures.record("a.test", "status 500", 10.0, rejected=False, longest_pause=LONGEST)
    failure = failures.get("a.test")
    assert failure is not None
    assert (failure.at, failure.error, failure.pause) == (10.0, "status 500", 0.0)
    assert not failures.is_paused("a.test", 10.0)
    assert not failures.is_rejected("a.test")


def test_responses_that_are_not_usable_make_growing_pauses() -> None:
    failures, pauses = LookupFailures(), []
    for _ in range(7):
        failures.record("a.test", "not a route", 10.0, rejected=True, longest_pause=LONGEST)
        failure = failures.get("a.test")
        assert failure is not None
        pauses.append(failure.pause)
    assert pauses == [0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 4.0]
    assert failures.is_rejected("a.test")
    assert failures.is_paused("a.test", 13.9)
    assert not failures.is_paused("a.test", 14.0)
    assert not failures.is_paused("b.test", 10.0)


def test_a_failure_of_the_service_ends_the_pauses() -> None:
    failures = LookupFailures()
    for rejected in (True, True, False, True):
        failures.record("a.test", "x", 10.0, rejected=rejected, longest_pause=LONGEST)
    assert not failures.is_paused("a.test", 10.0)


def test_a_success_is_the_end_of_it() -> None:
    failures = LookupFailures()
    failures.record("a.test", "x", 10.0, rejected=True, longest_pause=LONGEST)
    failures.forget("a.test")
    failures.forget("never.test")
    assert failures.get("a.test") is None


def test_only_so_many_hostnames_are_remembered() -> None:
    failures = LookupFailures(3)
    for number in range(5):
        failures.record(f"{number}.test", "x", 10.0, rejected=False, longest_pause=LONGEST)
    assert len(failures) == 3
    assert failures.get("0.test") is None
    assert failures.get("4.test") is not None
