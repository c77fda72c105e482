"""Which certificate is ordered next."""

from math import inf

import pytest
from msgspec.structs import replace

from edge.rules.acme.issuance_plan import (
    UNKNOWN_RETRY,
    UNSURE_RETRY,
    WANTED_FOR,
    IssuancePlan,
    IssuanceStep,
    may_be_ordered,
    next_step,
)
from edge.rules.acme.issuance_records import IssuanceGate, IssuanceRecord
from edge.rules.acme.issuance_times import ARI_PERIOD, DAY
from edge.rules.acme.order_limits import HOUR, WEEK, OrderLimits

OURS, OTHER = "https://ca.test/dir", "https://trial.ca.test/dir"
NOW = 1_000_000.0
NEW = IssuanceRecord("a.test", wanted_at=NOW)
HELD = IssuanceRecord("a.test", directory_url=OURS, not_after=NOW + DAY, renew_at=NOW + HOUR, ask_renewal_at=inf)


def plan(*, per_hour=100, per_domain=100, under_way=4, **bounds) -> IssuancePlan:
    limits = OrderLimits(per_hour, per_domain)
    domain_of = lambda hostname: ".".join(hostname.split(".")[-2:])  # noqa: E731
    return IssuancePlan(OURS, limits, most_under_way=under_way, domain_of=domain_of, **bounds)


@pytest.mark.parametrize(
    ("hostname", "may"),
    [
        ("a.test", True),
        ("xn--bcher-kva.example.org", True),
        ("1.test", True),
        ("localhost", False),
        ("_dmarc.a.test", False),
        ("*.a.test", False),
        ("a..test", False),
        ("../a.test", False),
        (".".join(["a" * 60] * 4), False),
    ],
)
def test_names_that_an_authority_takes(hostname, may):
    assert may_be_ordered(hostname) is may


@pytest.mark.parametrize(
    ("record", "found"),
    [
        (NEW, (NOW, IssuanceStep.FIRST)),
        (replace(NEW, wanted_at=NOW - WANTED_FOR), (inf, None)),
        (replace(NEW, retry_at=NOW + 300), (NOW + 300, IssuanceStep.FIRST)),
        (replace(NEW, retry_at=NOW + WANTED_FOR), (inf, None)),
        (replace(NEW, order_url="https://ca.test/1", directory_url=OURS), (0.0, IssuanceStep.RESUME)),
        (replace(NEW, order_url="https://trial.ca.test/1", directory_url=OTHER), (NOW, IssuanceStep.FIRST)),
        (HELD, (NOW + HOUR, IssuanceStep.RENEW)),
        (replace(HELD, retry_at=NOW + 2 * HOUR), (NOW + 2 * HOUR, IssuanceStep.RENEW)),
        (replace(HELD, ask_renewal_at=NOW + 5), (NOW + 5, IssuanceStep.ASK)),
        (replace(HELD, directory_url=OTHER), (0.0, IssuanceStep.RENEW)),
        (replace(HELD, not_after=NOW), (inf, None)),
        (replace(HELD, not_after=NOW, wanted_at=NOW - 1), (NOW - 1, IssuanceStep.FIRST)),
    ],
)
def test_the_next_step_of_a_name(record, found):
    assert next_step(record, NOW, OURS) == found


def test_one_order_of_a_name_however_many_want_it():
    tried = plan()
    for _ in range(3):
        tried.want("a.test", NOW)
    taken = tried.take(NOW)
    assert taken is not None
    assert (taken.step, taken.record.hostname) == (IssuanceStep.FIRST, "a.test")
    tried.want("a.test", NOW)
    assert tried.take(NOW) is None
    assert tried.next_at(NOW) == inf


def test_from_wanted_to_the_renewal():
    tried = plan()
    tried.want("a.test", NOW)
    tried.take(NOW)
    assert tried.begin_order("a.test", NOW)
    tried.began("a.test", "https://ca.test/1")
    assert tried.unsaved["a.test"].order_url == "https://ca.test/1"
    tried.issued("a.test", NOW, NOW + 90 * DAY, NOW, 0.0)
    record = tried.records["a.test"]
    assert (record.order_url, record.renew_at, record.first_orders) == ("", NOW + 60 * DAY, (NOW,))
    asked = tried.take(NOW)
    assert asked is not None
    assert asked.step is IssuanceStep.ASK
    tried.renewal_suggested("a.test", (NOW + 5 * HOUR, NOW + 7 * HOUR), None, NOW, 0.25)
    assert tried.records["a.test"].renew_at == NOW + 5.5 * HOUR
    assert tried.next_at(NOW) == NOW + 5.5 * HOUR
    renewal = tried.take(NOW + 6 * HOUR)
    assert renewal is not None
    assert renewal.step is IssuanceStep.RENEW
    assert tried.begin_order("a.test", NOW + 6 * HOUR)
    assert tried.records["a.test"].renewals == (NOW + 6 * HOUR,)


@pytest.mark.parametrize("window", [None, (NOW + 59 * DAY, NOW + 61 * DAY)])
def test_a_time_that_is_in_the_window_stays(window):
    tried = plan()
    tried.load([replace(HELD, renew_at=NOW + 60 * DAY, not_after=NOW + 90 * DAY, ask_renewal_at=NOW)], NOW)
    tried.take(NOW)
    tried.renewal_suggested("a.test", window, None, NOW, 0.0)
    assert tried.records["a.test"].renew_at == NOW + 60 * DAY
    assert tried.next_at(NOW) == NOW + ARI_PERIOD


def test_a_failed_order_concerns_its_name_alone():
    tried = plan()
    tried.want("a.test", NOW)
    tried.take(NOW)
    tried.failed("a.test", "proof_failed", "x" * 10_000, 0.0, NOW, 0.5)
    record = tried.records["a.test"]
    assert (record.failures, record.reason, len(record.details), record.retry_at) == (
        1,
        "proof_failed",
        500,
        NOW + 300,
    )
    tried.want("a.test", NOW + 1)
    assert tried.take(NOW + 299) is None
    tried.want("b.test", NOW)
    other = tried.take(NOW + 1)
    assert other is not None
    assert other.record.hostname == "b.test"
    again = tried.take(NOW + 300)
    assert again is not None
    assert again.record.hostname == "a.test"
    tried.failed("a.test", "proof_failed", "", 0.0, NOW + 300, 0.5)
    assert tried.records["a.test"].retry_at == NOW + 300 + 600


def test_all_wait_for_an_authority_that_fails():
    tried = plan()
    for hostname in ("a.test", "b.test"):
        tried.want(hostname, NOW)
    tried.take(NOW)
    tried.authority_failed("a.test", "it is down", 0.0, NOW, 0.5)
    assert tried.gate(NOW) == IssuanceGate(NOW + 2, "authority_failed", "it is down")
    assert tried.take(NOW + 1) is None
    assert tried.next_at(NOW) == NOW + 2
    assert tried.records["a.test"].failures == 0
    taken = {tried.take(NOW + 2).record.hostname for _ in range(2)}
    assert taken == {"a.test", "b.test"}
    tried.authority_failed("a.test", "", 0.0, NOW + 2, 0.5)
    assert tried.gate(NOW + 2).until == NOW + 6


def test_an_order_under_way_is_taken_up_by_the_next_process():
    tried = plan()
    tried.load([replace(NEW, order_url="https://ca.test/1", directory_url=OURS, first_orders=(NOW,))], NOW)
    taken = tried.take(NOW)
    assert taken is not None
    assert taken.step is IssuanceStep.RESUME


def test_no_more_orders_in_an_hour_also_after_a_restart():
    tried = plan(per_hour=2)
    tried.load([replace(HELD, renewals=(NOW - 10,)), IssuanceRecord("b.test", first_orders=(NOW - HOUR,))], NOW)
    for hostname in ("c.test", "d.test"):
        tried.want(hostname, NOW)
    assert tried.take(NOW) is not None
    assert tried.begin_order("c.test", NOW)
    assert tried.take(NOW) is None
    assert tried.gate(NOW) == IssuanceGate(NOW - 10 + HOUR, "orders_per_hour")
    assert tried.take(NOW - 10 + HOUR) is not None


def test_several_that_were_taken_do_not_exceed_the_limit():
    tried = plan(per_hour=1)
    for hostname in ("a.test", "b.test"):
        tried.want(hostname, NOW)
        assert tried.take(NOW) is not None
    assert tried.begin_order("a.test", NOW)
    assert not tried.begin_order("b.test", NOW)
    tried.not_ordered("b.test", "limit", NOW)
    assert tried.next_at(NOW) == NOW + HOUR


def test_first_orders_below_one_domain():
    tried = plan(per_domain=1)
    tried.load([IssuanceRecord("old.site.test", first_orders=(NOW - DAY,))], NOW)
    tried.want("a.site.test", NOW - 1)
    tried.want("a.other.test", NOW)
    taken = tried.take(NOW)
    assert taken is not None
    assert taken.record.hostname == "a.other.test"
    waiting = tried.records["a.site.test"]
    assert (waiting.reason, waiting.retry_at) == ("orders_per_domain", NOW - DAY + WEEK)
    assert tried.take(NOW + 1) is None


def test_at_most_so_many_at_once():
    tried = plan(under_way=2)
    for hostname in ("a.test", "b.test", "c.test"):
        tried.want(hostname, NOW)
    assert tried.take(NOW) is not None
    assert tried.take(NOW) is not None
    assert tried.take(NOW) is None
    tried.issued("a.test", NOW, NOW + 90 * DAY, NOW, 0.5)
    assert tried.take(NOW) is not None


@pytest.mark.parametrize(
    ("record", "reason", "due"),
    [
        (NEW, "unknown_host", inf),
        (replace(HELD, renew_at=NOW), "unknown_host", NOW + DAY - 1),
        (NEW, "route_unsure", NOW + UNSURE_RETRY),
    ],
)
def test_names_that_are_not_ordered(record, reason, due):
    tried = plan()
    tried.load([replace(record, not_after=record.not_after and NOW + 2 * DAY)], NOW)
    tried.take(NOW)
    tried.not_ordered("a.test", reason, NOW)
    assert tried.next_at(NOW) == due or tried.next_at(NOW) == due + 1
    assert tried.records["a.test"].reason == reason
    assert not tried.under_way


def test_an_unknown_name_that_is_wanted_again():
    tried = plan()
    tried.want("a.test", NOW)
    tried.take(NOW)
    tried.not_ordered("a.test", "unknown_host", NOW)
    tried.want("a.test", NOW + 1)
    assert tried.next_at(NOW + 1) == NOW + UNKNOWN_RETRY


def test_a_certificate_that_is_there_is_not_wanted_until_its_file_is_lost():
    tried = plan()
    tried.load([HELD], NOW)
    tried.want("a.test", NOW)
    assert tried.take(NOW) is None
    tried.lost("a.test", NOW)
    tried.want("a.test", NOW)
    taken = tried.take(NOW)
    assert taken is not None
    assert taken.step is IssuanceStep.FIRST


def test_the_number_of_names_is_bounded():
    tried = plan(most_names=3, most_wanted=2)
    tried.load([HELD], NOW)
    for hostname in ("b.test", "c.test", "d.test"):
        tried.want(hostname, NOW)
    assert set(tried.records) == {"a.test", "b.test", "c.test"}
    several = plan(most_names=1)
    several.load([HELD, NEW], NOW)
    assert len(several.records) == 1


def test_what_nobody_wants_is_forgotten():
    tried = plan()
    tried.load(
        [replace(NEW, wanted_at=NOW - WEEK), replace(NEW, hostname="b.test"), replace(HELD, hostname="c.test")], NOW
    )
    assert tried.forget_old(NOW) == ["a.test"]
    assert set(tried.records) == {"b.test", "c.test"}
