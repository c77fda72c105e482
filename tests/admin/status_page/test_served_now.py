"""Rates and latencies between two readings of the scoreboard."""

import pytest

from edge.admin.metric_sources import BOUNDS_MS, EdgeState
from edge.admin.metrics.named_slots import ListenerNumbers
from edge.admin.request_counters import RequestCounters
from edge.admin.scoreboard import LAYOUT, Scoreboard, cell, summed
from edge.admin.status_page.served_now import (
    Reading,
    listeners_now,
    percentile,
    routes_now,
    served_now,
    source_now,
    workers_now,
)
from edge.admin.status_page.status_records import ListenerNow
from edge.rules.exchange_records import Attempted
from edge.rules.outcomes import Blame, Cause, Phase
from edge.rules.route_sets.route_file_guard import RouteFileState
from edge.rules.routing.invalidation import StreamState
from edge.rules.traffic.listener_counts import ListenerCounts


def buckets(**counts):
    """Counts of the buckets, by upper bound in milliseconds (`ms5=2`)."""
    found = [0.0] * (len(BOUNDS_MS) + 1)
    for name, count in counts.items():
        found[BOUNDS_MS.index(float(name.removeprefix("ms"))) if name != "above" else -1] = count
    return found


@pytest.mark.parametrize(
    ("counts", "part", "expected"),
    [
        ({}, 0.5, None),
        ({"ms10": 10}, 0.5, 7.5),
        ({"ms10": 10}, 1.0, 10.0),
        ({"ms10": 1, "ms100": 1}, 0.5, 10.0),
        ({"ms10": 90, "ms100": 10}, 0.95, 75.0),
        ({"above": 1}, 0.5, 60_000.0),
    ],
)
def test_percentiles(counts, part, expected):
    assert percentile(buckets(**counts), part) == expected


@pytest.fixture
def board():
    board = Scoreboard(4)
    for slot in range(2):
        board.row(slot + 1).begin(slot, 100 + slot, 5.0)
    return board


def reading(board, at):
    return Reading(at, summed(board.used()))


def test_rates_by_blame_and_what_was_retried(board, outcome):
    before = reading(board, 10.0)
    fine = RequestCounters(board.row(1))
    for _ in range(8):
        fine.record(outcome())
    refused = Attempted(backend="a", result=Cause.REFUSED, status=503, connect_ms=0.0, first_byte_ms=1.0)
    RequestCounters(board.row(2)).record(outcome(attempts=[refused, *outcome().attempts]))
    RequestCounters(board.row(2)).record(
        outcome(blame=Blame.EDGE, cause=Cause.DRAINED, phase=Phase.ROUTE, status=503, attempts=[])
    )
    served = served_now(reading(board, 12.0), before, before)
    assert served.requests == 5.0
    assert served.by_blame == {"nobody": 4.5, "client": 0.0, "backend": 0.0, "core": 0.0, "edge": 0.5}
    assert (served.retries, served.refusals) == (0.5, 0.5)
    assert served.bytes_out == 10 * 5120 / 2
    assert served.p50 is not None
    assert 10.0 < served.p50 <= 25.0


def test_nothing_served(board):
    now = reading(board, 1.0)
    served = served_now(now, now, now)
    assert (served.requests, served.p50, served.p99) == (0.0, None, None)


def test_the_core_api_and_a_file(board):
    before = reading(board, 0.0)
    RequestCounters(board.row(1)).record_lookup("route", 0.004)
    RequestCounters(board.row(1)).record_lookup("timeout", 5.0)
    stream, file = StreamState(), RouteFileState()
    board.row(1).cells[cell("styx_core_api_up")] = 1.0
    now = reading(board, 2.0)
    workers = [row for row in board.used() if row.alive]
    source = source_now(now, before, workers, EdgeState(stream, file, 9.0))
    assert (source.kind, source.up, source.lookups, source.failures) == ("core API", False, 1.0, 0.5)
    assert (source.changes_up, source.changes_silence) == (False, None)
    file.reset(is_read=True)
    file.good, file.held_back, file.hostnames, file.problem = False, 2, 30, "cannot read x"
    source = source_now(now, before, workers, EdgeState(stream, file, 9.0))
    assert (source.kind, source.up, source.held_back, source.hostnames) == ("file", False, 2, 30)
    assert source.problem == "cannot read x"


def test_routes_are_those_of_the_worker_that_has_most(board):
    for number, known in ((1, 10.0), (2, 12.0)):
        board.row(number).cells[cell("styx_routes")] = known
        board.row(number).cells[LAYOUT.cells["styx_route_lookups_total"]["hit"]] = 9.0
    board.row(1).cells[LAYOUT.cells["styx_route_lookups_total"]["miss"]] = 2.0
    nothing = Reading(0.0, [0.0] * LAYOUT.size)
    routes = routes_now(reading(board, 1.0), nothing, [board.row(1), board.row(2)])
    assert (routes.known, routes.hit_ratio) == (12.0, 0.9)
    assert routes_now(nothing, nothing, []).hit_ratio == 1.0


def test_workers_and_listeners(board):
    board.row(3).begin(1, 99, 5.0)
    board.row(1).publish_queue(0, 3)
    board.row(2).publish_queue(0, 4)
    for row, names, opened in ((1, ["b:81"], 5), (2, ["a:80", "b:81"], 6), (3, ["b:81", "a:80"], 7)):
        counts = [ListenerCounts(name) for name in names]
        counts[0].connections = opened
        ListenerNumbers(board.row(row), names).publish(counts)
    rows = [row for row in board.used() if row.alive]
    workers = workers_now(rows, {0: 100, 1: 101}, 7.5)
    assert [(w.slot, w.pid, w.leaving, w.heard) for w in workers] == [
        (0, 100, False, 2.5),
        (1, 101, False, 2.5),
        (1, 99, True, 2.5),
    ]
    board.row(3).ended()
    rows = [row for row in board.used() if row.alive]
    assert listeners_now(["a:80", "b:81", "c:82"], rows) == [
        ListenerNow("a:80", queue=7.0, connections=6.0),
        ListenerNow("b:81", queue=0.0, connections=5.0),
        ListenerNow("c:82", queue=0.0, connections=0.0),
    ], "the row of an ended process has none"
