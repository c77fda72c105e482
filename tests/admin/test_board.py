"""Memory that processes share: nothing is lost with one of them, and no sum ever falls."""

import os
import signal
import time

import msgspec
import pytest

from edge.admin import board as at
from edge.admin.board import SIZE, Board, summed
from edge.admin.tally import Tally
from edge.rules.snapshots import WorkerSnapshot


def in_a_child(run):
    """Run it in a process of its own; its id."""
    pid = os.fork()
    if not pid:
        try:
            run()
        finally:
            os._exit(0)
    return pid


def test_no_two_numbers_share_a_cell(outcome, snapshot):
    """Whatever is written changes the cells that it should, and no others."""
    starts = [at.TOTAL, at.FIRST_BYTE, at.CONNECT, at.RESOLVE, at.OVERHEAD, at.LOOP_LAG, *at.CORE.values()]
    taken = [cell for start in starts for cell in range(start, start + len(at.BOUNDS_MS) + 2)]
    taken += [at.BEGUN, at.ALIVE, at.SLOT, at.PID, at.HEARTBEAT, at.LAG, at.BYTES_IN, at.BYTES_OUT]
    taken += [cell for cells in at.OUTCOME_AT.values() for cell in cells.values()]
    taken += [*range(at.STATUS, at.STATUS + at.STATUSES), *at.ATTEMPT_AT.values(), *at.RETRY_AT.values()]
    taken += [*at.GAUGE.values(), *at.COUNTER.values(), at.LOG_WRITTEN, at.LOG_DROPPED]
    taken += [*at.RELOADS.values(), at.LAST_RELOAD_GOOD, at.LAST_RELOAD_TIME]
    taken += [*range(at.QUEUES, at.QUEUES + at.LISTENERS)]
    taken += [*at.RESTARTED.values(), *at.UPGRADES.values(), *at.TASK_FAILED.values(), at.CONTROL_REFUSED]
    assert sorted(taken) == list(range(SIZE))


def test_every_member_of_a_snapshot_is_published():
    assert {*at.GAUGES, *at.COUNTERS} == set(WorkerSnapshot.__struct_fields__)


def test_the_counts_of_a_process_outlive_it(outcome):
    board, ready = Board(3), os.pipe()

    def count_and_hang():
        row = board.row(1)
        row.begin(0, os.getpid(), time.monotonic())
        tally = Tally(row)
        for _ in range(1000):
            tally.record(outcome(bytes_out=3))
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
    assert (sums[at.STATUS + 100], sums[at.BYTES_OUT]) == (1000, 3000)
    for end in ready:
        os.close(end)


def test_a_successor_goes_on_adding(snapshot):
    board = Board(3)
    row = board.row(1)
    row.begin(0, 11, 1.0)
    row.publish(snapshot, 5, 1)
    row.ended()
    assert [row.cells[cell] for cell in at.GAUGE.values()] == [0.0] * len(at.GAUGE)
    row.begin(2, 12, 2.0)
    row.publish(msgspec.structs.replace(snapshot, routes=7), 1, 0)
    row.publish(msgspec.structs.replace(snapshot, routes=8), 2, 0)
    assert row.cells[at.COUNTER["links_opened"]] == 2 * snapshot.links_opened
    assert (row.cells[at.LOG_WRITTEN], row.cells[at.LOG_DROPPED]) == (7, 1)
    assert row.cells[at.GAUGE["routes"]] == 8
    assert (row.slot, row.pid, row.heartbeat) == (2, 12, 2.0)


def test_sums_never_fall_while_somebody_writes_and_dies(outcome):
    board = Board(4)

    def count(number):
        row = board.row(number)
        row.begin(number - 1, os.getpid(), time.monotonic())
        tally = Tally(row)
        while True:
            tally.record(outcome(bytes_out=1))

    before = [0.0] * SIZE
    cells = [*range(at.OUTCOMES, at.LOOP_LAG)]
    for _ in range(5):
        pids = [in_a_child(lambda number=number: count(number)) for number in (1, 2)]
        until = before[at.BYTES_OUT] + 2000
        while before[at.BYTES_OUT] < until:
            now = summed(board.used())
            assert all(now[cell] >= before[cell] for cell in cells)
            before = now
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        for number in (1, 2):
            board.row(number).ended()
    assert before[at.BYTES_OUT] >= 10_000


def test_the_master_counts_what_it_does():
    board = Board(2)
    row = board.row(0)
    row.started(1.0)
    row.reloaded(True, 2.0)
    row.reloaded(False, 3.0)
    row.restarted("stalled")
    row.upgraded(False)
    assert (row.cells[at.LAST_RELOAD_GOOD], row.cells[at.LAST_RELOAD_TIME]) == (0, 2.0)
    assert [row.cells[cell] for cell in at.RELOADS.values()] == [1, 1]
    assert row.cells[at.RESTARTED["stalled"]] == row.cells[at.UPGRADES["failed"]] == 1
    with pytest.raises(KeyError):
        row.restarted("bored")
    assert board.used()[0].cells[at.RELOADS["failed"]] == 1, "the master's row is among those in use"
