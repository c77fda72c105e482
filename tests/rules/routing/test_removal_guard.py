"""What takes everything away from known hostnames is not believed at once, nor of many at once."""

from edge.rules.routing.removal_guard import FORGOTTEN_AFTER, MASS_WINDOW, Removal, RemovalGuard


def judge(
    guard: RemovalGuard[str], host: str, now: float, *, site: str = "", confirmed: bool = False, in_use: int = 1000
) -> Removal:
    return guard.judge(
        host, f"{site or host}/live", f"before {host}", now, confirmed=confirmed, hold=30.0, in_use=lambda: in_use
    )


def test_confirmed_it_is_believed_at_once_otherwise_after_the_hold() -> None:
    guard: RemovalGuard[str] = RemovalGuard()
    assert judge(guard, "a.test", 100.0, confirmed=True) is Removal.BELIEVED
    said = [judge(guard, "b.test", now) for now in (100.0, 110.0, 129.9, 130.0)]
    assert said == [Removal.UNCONFIRMED] * 3 + [Removal.BELIEVED]
    assert judge(guard, "b.test", 131.0) is Removal.UNCONFIRMED, "the next time it counts anew"


def test_what_is_confirmed_later_is_believed_then() -> None:
    guard: RemovalGuard[str] = RemovalGuard()
    assert judge(guard, "a.test", 100.0) is Removal.UNCONFIRMED
    assert judge(guard, "a.test", 101.0, confirmed=True) is Removal.BELIEVED


def test_a_word_to_the_contrary_settles_it() -> None:
    guard: RemovalGuard[str] = RemovalGuard()
    judge(guard, "a.test", 100.0)
    guard.settle("a.test")
    assert judge(guard, "a.test", 135.0) is Removal.UNCONFIRMED


def test_what_was_not_repeated_for_long_counts_anew() -> None:
    guard: RemovalGuard[str] = RemovalGuard()
    judge(guard, "a.test", 100.0)
    assert judge(guard, "a.test", 101.0 + FORGOTTEN_AFTER) is Removal.UNCONFIRMED


def test_many_are_held_back_and_those_before_are_undone_once() -> None:
    guard: RemovalGuard[str] = RemovalGuard()
    said = [judge(guard, f"{n}.test", 100.0 + n / 10, confirmed=True, in_use=50) for n in range(12)]
    assert said == [Removal.BELIEVED] * 9 + [Removal.MASS] * 3
    assert [tuple(undone) for undone in guard.undo(101.2)] == [(f"{n}.test", f"before {n}.test") for n in range(9)]
    assert guard.undo(101.2) == []
    assert judge(guard, "0.test", 115.0, confirmed=True, in_use=50) is Removal.MASS, (
        "though it is one of few by now"
    )
    assert judge(guard, "0.test", 130.0, confirmed=True, in_use=50) is Removal.BELIEVED


def test_what_was_believed_long_before_stays_so() -> None:
    guard: RemovalGuard[str] = RemovalGuard()
    judge(guard, "early.test", 80.0, confirmed=True, in_use=50)
    for n in range(10):
        judge(guard, f"{n}.test", 100.0, confirmed=True, in_use=50)
    assert "early.test" not in {undone.hostname for undone in guard.undo(100.0)}


def test_hostnames_of_one_environment_are_one() -> None:
    guard: RemovalGuard[str] = RemovalGuard()
    said = {judge(guard, f"{n}.test", 100.0, site="acme", confirmed=True, in_use=50) for n in range(500)}
    assert said == {Removal.BELIEVED}


def test_environments_in_use_are_counted_seldom() -> None:
    """It looks at all of them."""
    guard: RemovalGuard[str] = RemovalGuard()
    counted = []

    def in_use() -> int:
        counted.append(1)
        return 100_000

    for n in range(2000):
        guard.judge(f"{n}.test", f"{n}/live", "", 100.0 + n / 200, confirmed=True, hold=30.0, in_use=in_use)
    assert len(counted) == 1


def test_what_is_remembered_is_bounded() -> None:
    guard: RemovalGuard[str] = RemovalGuard(capacity=3)
    for n in range(5):
        judge(guard, f"{n}.test", 100.0)
    said = [judge(guard, f"{n}.test", 130.0) for n in range(5)]
    assert said == [Removal.BELIEVED] * 3 + [Removal.UNCONFIRMED] * 2, "who had no room begins later"
    full: RemovalGuard[str] = RemovalGuard(capacity=3)
    said = [judge(full, f"{n}.test", 100.0, confirmed=True) for n in range(5)]
    assert said == [Removal.BELIEVED] * 3 + [Removal.UNCONFIRMED] * 2
    assert judge(full, "9.test", 101.0 + MASS_WINDOW, confirmed=True) is Removal.BELIEVED, "there is room again"


def test_no_hold_is_no_hold() -> None:
    guard: RemovalGuard[str] = RemovalGuard()
    for n in range(50):
        said = guard.judge(f"{n}.test", f"{n}/live", "", 100.0, confirmed=False, hold=0.0, in_use=lambda: 50)
        assert said is Removal.BELIEVED
