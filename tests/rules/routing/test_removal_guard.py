"""The removal guard: single and mass removals, and when they are accepted."""

from edge.rules.routing.removal_guard import FORGOTTEN_AFTER, MASS_WINDOW, Removal, RemovalGuard


def judge(
    guard: RemovalGuard[str], host: str, now: float, *, site: str = "", confirmed: bool = False, in_use: int = 1000
) -> Removal:
    return guard.judge(
        host, f"{site or host}/live", f"before {host}", now, confirmed=confirmed, hold=30.0, in_use=lambda: in_use
    )


def test_a_confirmed_removal_is_accepted_at_once_others_after_the_hold() -> None:
    guard: RemovalGuard[str] = RemovalGuard()
    assert judge(guard, "a.test", 100.0, confirmed=True) is Removal.ACCEPTED
    decisions = [judge(guard, "b.test", now) for now in (100.0, 110.0, 129.9, 130.0)]
    assert decisions == [Removal.UNCONFIRMED] * 3 + [Removal.ACCEPTED]
    assert judge(guard, "b.test", 131.0) is Removal.UNCONFIRMED, "the next time it starts again"


def test_a_removal_that_is_confirmed_later_is_accepted_then() -> None:
    guard: RemovalGuard[str] = RemovalGuard()
    assert judge(guard, "a.test", 100.0) is Removal.UNCONFIRMED
    assert judge(guard, "a.test", 101.0, confirmed=True) is Removal.ACCEPTED


def test_another_response_ends_the_hold() -> None:
    guard: RemovalGuard[str] = RemovalGuard()
    judge(guard, "a.test", 100.0)
    guard.settle("a.test")
    assert judge(guard, "a.test", 135.0) is Removal.UNCONFIRMED


def test_a_removal_that_was_not_repeated_for_long_starts_again() -> None:
    guard: RemovalGuard[str] = RemovalGuard()
    judge(guard, "a.test", 100.0)
    assert judge(guard, "a.test", 101.0 + FORGOTTEN_AFTER) is Removal.UNCONFIRMED


def test_many_are_held_back_and_those_before_are_undone_once() -> None:
    guard: RemovalGuard[str] = RemovalGuard()
    decisions = [judge(guard, f"{n}.test", 100.0 + n / 10, confirmed=True, in_use=50) for n in range(12)]
    assert decisions == [Removal.ACCEPTED] * 9 + [Removal.MASS] * 3
    assert [tuple(undone) for undone in guard.undo(101.2)] == [(f"{n}.test", f"before {n}.test") for n in range(9)]
    assert guard.undo(101.2) == []
    assert judge(guard, "0.test", 115.0, confirmed=True, in_use=50) is Removal.MASS, (
        "though it is one of few by now"
    )
    assert judge(guard, "0.test", 130.0, confirmed=True, in_use=50) is Removal.ACCEPTED


def test_what_was_accepted_long_before_is_not_undone() -> None:
    guard: RemovalGuard[str] = RemovalGuard()
    judge(guard, "early.test", 80.0, confirmed=True, in_use=50)
    for n in range(10):
        judge(guard, f"{n}.test", 100.0, confirmed=True, in_use=50)
    assert "early.test" not in {undone.hostname for undone in guard.undo(100.0)}


def test_hostnames_of_one_environment_are_one() -> None:
    guard: RemovalGuard[str] = RemovalGuard()
    decisions = {judge(guard, f"{n}.test", 100.0, site="acme", confirmed=True, in_use=50) for n in range(500)}
    assert decisions == {Removal.ACCEPTED}


def test_environments_in_use_are_rarely_counted() -> None:
    """Counting looks at all environments."""
    guard: RemovalGuard[str] = RemovalGuard()
    counted = []

    def in_use() -> int:
        counted.append(1)
        return 100_000

    for n in range(2000):
        guard.judge(f"{n}.test", f"{n}/live", "", 100.0 + n / 200, confirmed=True, hold=30.0, in_use=in_use)
    assert len(counted) == 1


def test_memory_is_bounded() -> None:
    guard: RemovalGuard[str] = RemovalGuard(capacity=3)
    for n in range(5):
        judge(guard, f"{n}.test", 100.0)
    decisions = [judge(guard, f"{n}.test", 130.0) for n in range(5)]
    assert decisions == [Removal.ACCEPTED] * 3 + [Removal.UNCONFIRMED] * 2, "those without room begin later"
    full: RemovalGuard[str] = RemovalGuard(capacity=3)
    decisions = [judge(full, f"{n}.test", 100.0, confirmed=True) for n in range(5)]
    assert decisions == [Removal.ACCEPTED] * 3 + [Removal.UNCONFIRMED] * 2
    assert judge(full, "9.test", 101.0 + MASS_WINDOW, confirmed=True) is Removal.ACCEPTED, "there is room again"


def test_without_a_hold_removals_are_accepted_at_once() -> None:
    guard: RemovalGuard[str] = RemovalGuard()
    for n in range(50):
        decision = guard.judge(f"{n}.test", f"{n}/live", "", 100.0, confirmed=False, hold=0.0, in_use=lambda: 50)
        assert decision is Removal.ACCEPTED
