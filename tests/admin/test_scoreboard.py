"""The scoreboard in shared memory: counts outlive their process, and no sum ever falls."""

import os
import signal
import time

import pytest

from edge.admin import scoreboard as at
from edge.admin.metric_sources import LISTENERS, STATUSES, AcceptQueues, MetricType, Named, Statuses
from edge.admin.metrics_table import METRICS
from edge.admin.request_counters import BYTES_OUT, OUTCOME_AT, STATUS_AT, RequestCounters
from edge.admin.scoreboard import LAYOUT, TIMES, Scoreboard, cell, summed


def in_a_child(run):
    """Run it in a child process; returns its process id."""
    pid = os.fork()
    if not pid:
        try:
            run()
        finally:
            os._exit(0)
    return pid


def test_no_two_numbers_share_a_cell():
    taken = [at.BEGUN, at.SLOT, at.PID, at.HEARTBEAT, *range(at.ACCEPTED_ON, at.ACCEPTED_ON + LISTENERS)]
    taken += [cell for cells in OUTCOME_AT.values() for cell in cells.values()]
    for group, first in LAYOUT.owners.items():
        taken += range(first, first + group.most)
    for metric in METRICS:
        width = {Statuses: STATUSES, AcceptQueues: LISTENERS}.get(type(metric.source), 1)
        width *= metric.source.group.most if isinstance(metric.source, Named) else 1
        width *= TIMES if metric.type is MetricType.HISTOGRAM else 1
        for start in LAYOUT.cells.get(metric.name, {}).values():
            taken += range(start, start + width)
    assert sorted(taken) == list(range(LAYOUT.size))


def test_no_two_published_numbers_share_a_key():
    keys = [key for key, _ in (*LAYOUT.published_gauges, *LAYOUT.published_counters)]
    assert len(keys) == len(set(keys))


def test_the_counts_of_a_process_outlive_it(outcome):
    board, ready = Scoreboard(3), os.pipe()

    def count_and_hang():
        row = board.row(1)
        row.begin(0, os.getpid(), time.monotonic())
        request_counters = RequestCounters(row)
        for _ in range(1000):
            request_counters.record(outcome(bytes_out=3))
        os.write(ready[1], b"x")
        signal.pause()

    pid = in_a_child(count_and_hang)
    os.read(ready[0], 1)
    assert board.row(1).alive
    assert board.row(1).pid == pid
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    board.row(1).ended()
    sums = summed(board.used())
    assert not board.row(1).alive
    assert (sums[STATUS_AT + 200], sums[BYTES_OUT]) == (1000, 3000)
    for end in ready:
        os.close(end)


def test_the_next_process_adds_to_the_counts(snapshot):
    board = Scoreboard(3)
    row = board.row(1)
    row.begin(0, 11, 1.0)
    row.publish(snapshot)
    row.ended()
    assert [row.cells[cell] for cell in LAYOUT.gauges] == [0.0] * len(LAYOUT.gauges)
    row.begin(2, 12, 2.0)
    row.publish({**snapshot, "routes": 7})
    row.publish({**snapshot, "routes": 8, "log_lines": 1000})
    opened, lines = cell("styx_backend_connections_opened_total"), cell("styx_log_lines_total")
    assert row.cells[opened] == 2 * snapshot["links_opened"]
    assert row.cells[lines] == snapshot["log_lines"] + 1000
    assert row.cells[cell("styx_routes")] == 8
    assert (row.slot, row.pid, row.heartbeat) == (2, 12, 2.0)


def test_sums_never_fall_while_processes_write_and_die(outcome):
    board = Scoreboard(4)

    def count(number):
        row = board.row(number)
        row.begin(number - 1, os.getpid(), time.monotonic())
        request_counters = RequestCounters(row)
        while True:
            request_counters.record(outcome(bytes_out=1))

    before = [0.0] * LAYOUT.common
    cells = [cell for cell in range(at.HEARTBEAT + 1, LAYOUT.common) if cell not in LAYOUT.gauges]
    for _ in range(5):
        pids = [in_a_child(lambda number=number: count(number)) for number in (1, 2)]
        until = before[BYTES_OUT] + 2000
        try:
            while before[BYTES_OUT] < until:
                now = summed(board.used())
                assert all(now[cell] >= before[cell] for cell in cells)
                before = now
        finally:  # they would count for ever
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        for number in (1, 2):
            board.row(number).ended()
    assert before[BYTES_OUT] >= 10_000


def test_the_master_counts_its_events():
    board = Scoreboard(2)
    row = board.row(0)
    row.started(1.0)
    row.reloaded(True, 2.0)
    row.reloaded(False, 3.0)
    row.restarted("stalled")
    row.upgraded(False)
    assert (row.cells[at.LAST_RELOAD_GOOD], row.cells[at.LAST_RELOAD_TIME]) == (0, 2.0)
    assert [row.cells[cell] for cell in LAYOUT.cells["styx_reloads_total"].values()] == [1, 1]
    assert row.cells[cell("styx_worker_restarts_total", "stalled")] == 1
    assert row.cells[cell("styx_upgrades_total", "failed")] == 1
    with pytest.raises(KeyError):
        row.restarted("bored")
    failed = cell("styx_reloads_total", "failed")
    assert board.used()[0].cells[failed] == 1, "the master's row is among those in use"
