"""`outages` judges as its goals say, and short runs of some scenes meet them."""

import pytest

from bench.lab.availability_load import WRONG_SITE, AvailabilityResult, Completed, Fault
from bench.report import Fact
from bench.routing import outages
from bench.routing.outage_report import Cold, Latency, Line, OutagesReport, line_of

CALM, BEGIN, END = 100.0, 110.0, 120.0
QUICK, SLOW = 0.02, 0.2


def completed(took, *, begin=CALM, end=END, source=1):
    """A hundred requests a second, each completed after `took` seconds."""
    count = round(100 * (end - begin))
    return [Completed(source, due := begin + n / 100, due + took) for n in range(count)]


def fault(kind, due):
    return Fault(kind=kind, keep_alive=True, port=5, due=due, sent=due, seen=due + 0.1)


def line(known, *, direct=QUICK, cold=(), refused=(), excuses=lambda fault: False, kills=()):
    return line_of(
        ("scene", "what"),
        known=AvailabilityResult(
            offered=len(known.completed) + len(known.faults), completed=known.completed, faults=known.faults
        ),
        direct=AvailabilityResult(completed=[*completed(QUICK, end=BEGIN), *completed(direct, begin=BEGIN)]),
        cold=AvailabilityResult(completed=completed(QUICK, begin=BEGIN), faults=list(cold)),
        refused=AvailabilityResult(faults=list(refused)),
        excuses=excuses,
        kills=kills,
        period=(CALM, BEGIN, END),
    )


def in_outage(took):
    return AvailabilityResult(completed=[*completed(QUICK, end=BEGIN), *completed(took, begin=BEGIN)])


def test_what_is_as_before_is_good():
    seen = line(in_outage(QUICK))
    assert seen.good
    assert seen.ratio == pytest.approx(1.0)
    assert seen.cold == Cold(1000, 1000, pytest.approx(20.0), {})


@pytest.mark.parametrize("due", [CALM - 1, BEGIN + 1])
def test_any_failure_of_a_known_hostname_is_bad(due):
    known = in_outage(QUICK)
    known.faults.append(fault("503 no_backends", due))
    seen = line(known)
    assert not seen.served
    assert seen.failed == {"503 no_backends": 1}
    assert "1 x 503 no_backends" in OutagesReport(1.0, 1.0, [seen]).text()


def test_requests_on_a_killed_worker_are_excused():
    known = in_outage(QUICK)
    known.faults.append(fault("reset", BEGIN + 1))
    on_killed = [fault("reset", BEGIN + 1)] * 100
    seen = line(known, cold=on_killed, excuses=lambda fault: fault.kind == "reset")
    assert seen.good
    assert seen.excused == 1
    assert seen.cold.requested == 1000


@pytest.mark.parametrize(("kills", "good"), [([BEGIN + 2], True), ([BEGIN + 4], False), ([], False)])
def test_latencies_do_not_count_a_moment_after_a_kill(kills, good):
    slow = completed(SLOW, begin=BEGIN + 2, end=BEGIN + 3)
    known = AvailabilityResult(
        completed=[*completed(QUICK, end=BEGIN + 2), *slow, *completed(QUICK, begin=BEGIN + 3)]
    )
    seen = line(known, kills=kills)
    assert seen.good is good
    if kills:
        assert seen.killed_p99_ms == pytest.approx(1e3 * SLOW)


@pytest.mark.parametrize("load", ["cold", "refused"])
def test_a_page_of_another_site_is_bad_whoever_gets_it(load):
    seen = line(in_outage(QUICK), **{load: [fault(WRONG_SITE, BEGIN + 1)]})
    assert seen.wrong_site == 1
    assert not seen.served


def test_refused_hostnames_may_get_503():
    assert line(in_outage(QUICK), refused=[fault("503 lookup_failed", BEGIN + 1)]).good


def test_cold_hostnames_count_from_the_outage_on_and_when_they_are_in_time():
    before = [fault("429 unknown_host_limit", BEGIN - 1) for _ in range(500)]
    assert line(in_outage(QUICK), cold=before).good
    late = Cold.of(AvailabilityResult(completed=completed(2.5, begin=BEGIN)), BEGIN, END)
    assert (late.requested, late.in_time, late.good) == (1000, 0, False)
    assert line(in_outage(QUICK), cold=[fault("429 unknown_host_limit", BEGIN + 1)] * 10).good
    assert not line(in_outage(QUICK), cold=[fault("429 unknown_host_limit", BEGIN + 1)] * 11).good


def test_a_slow_outage_is_bad_unless_the_machine_was_slow():
    seen = line(in_outage(SLOW))
    assert seen.served
    assert not seen.good
    assert seen.ratio == pytest.approx(10.0)
    assert line(in_outage(SLOW), direct=SLOW).good, "what did not pass through styx was as slow"
    restless = AvailabilityResult(
        completed=[
            *completed(QUICK, end=BEGIN - 2),
            *completed(SLOW / 2, begin=BEGIN - 2, end=BEGIN),
            *completed(2 * SLOW, begin=BEGIN),
        ]
    )
    assert line(restless).slow is None


def test_windows():
    latency = Latency.between([*completed(QUICK, end=BEGIN), *completed(SLOW, begin=BEGIN)], BEGIN - 4, BEGIN + 3)
    assert latency.windows == pytest.approx([20.0, 20.0, 200.0])
    assert latency.p99 == pytest.approx(200.0)
    assert latency.unrest == pytest.approx(10.0)


@pytest.mark.parametrize("met", [None, True, False])
def test_facts_and_complaints_count(met):
    seen = line(in_outage(QUICK))
    seen.facts.append(Fact("something", "seen", "goal", met))
    assert seen.good is (met is not False)
    seen.complaints.append("styx invalidate all: exit status 1")
    assert not seen.good


def test_a_scene_that_could_not_be_played_is_no_success():
    good: Line = line(in_outage(QUICK))
    assert OutagesReport(1.0, 1.0, [good]).good
    assert not OutagesReport(1.0, 1.0, [good], ["scene could not be played"]).good
    assert not OutagesReport(1.0, 1.0).good


@pytest.mark.long
@pytest.mark.parametrize(
    "scene",
    [
        "file-emptied",
        "file-rewritten",
        "file-out-of-reach",
        "generations-lower-moved-invalidated",
        "core-api-400",
        "core-api-other-hostname",
        "hostnames-gone-all",
        pytest.param("changes-stream", marks=pytest.mark.alone),  # as many changes as the machine can make
        "unknown-hosts-careful",
        "admin-stopped",
    ],
)
async def test_scene(scene):
    report = await outages.run(outages.OutagesPlan(scenes=(scene,)).shorter())
    assert not report.broken
    [seen] = report.lines
    assert seen.served, report.text()
    # The load has really gone on all the time.
    assert seen.requests > 1500, report.text()
