"""Who names too many hostnames that do not exist."""

from edge.rules.settings import LimitSettings
from edge.rules.strangers import CLIENTS, Strangers


def strangers(each: float = 8.0, everybody: float = 128.0) -> Strangers:
    return Strangers(LimitSettings(unknown_hosts_per_client=each, unknown_hosts=everybody))


def used_up(bills: Strangers, client: str, now: float) -> int:
    """How many of its names are asked for now."""
    asked = 0
    while bills.admits(client, now) and asked < 1000:
        bills.found_none(client, now)
        asked += 1
    return asked


def test_ten_seconds_worth_at_once_then_the_rate() -> None:
    bills = strangers()
    assert used_up(bills, "a", 100.0) == 81
    assert used_up(bills, "a", 101.0) == 8
    assert used_up(bills, "a", 200.0) == 81


def test_all_together_have_a_limit_too() -> None:
    bills = strangers()
    assert [used_up(bills, client, 100.0) for client in "abc"] == [81, 48, 0]
    assert used_up(bills, "d", 100.5) == 64


def test_nobody_is_only_one_of_all() -> None:
    """A proxy that does not say for whom it asks."""
    assert used_up(strangers(), "", 100.0) == 129


def test_zero_is_no_limit() -> None:
    assert used_up(strangers(each=0.0), "a", 100.0) == 129
    assert used_up(strangers(everybody=0.0), "a", 100.0) == 81
    assert used_up(strangers(0.0, 0.0), "a", 100.0) == 1000


def test_bills_are_bounded() -> None:
    bills = strangers(everybody=0.0)
    for n in range(CLIENTS + 100):
        bills.found_none(f"client-{n}", 100.0)
    assert len(bills._bills) == CLIENTS
