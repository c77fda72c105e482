"""Batches of changes for the workers, on a virtual clock."""

import asyncio
from itertools import pairwise

import pytest

from edge.rules.routing.change_records import Change
from edge.rules.routing.invalidation import EVERYTHING
from edge.rules.routing.pending_changes import PendingChanges
from edge.run.control.change_batches import ChangeBatches
from tests.support.virtual_time import virtually

A, B = Change("site", "a"), Change("site", "b")


class Recorder(list):
    """Records batches, each with its time."""

    def __call__(self, changes):
        self.append((asyncio.get_running_loop().time(), changes))


def test_one_is_sent_at_once_and_those_that_come_together_in_one_message():
    async def play():
        sent = Recorder()
        batches = ChangeBatches(sent)
        began = asyncio.get_running_loop().time()
        batches.add([A])
        batches.add([B, A])
        await asyncio.sleep(0.001)
        assert [changes for _, changes in sent] == [[A, B]]
        assert sent[0][0] - began < 0.001

    virtually(play())


def test_a_flood_is_sent_fifty_times_a_second_up_to_its_end():
    async def play():
        sent, loop = Recorder(), asyncio.get_running_loop()
        batches = ChangeBatches(sent, interval=0.02)
        for n in range(5000):
            batches.add([A, Change("hostname", f"{n}.test"), EVERYTHING])
            await asyncio.sleep(0.0002)
        last = loop.time()
        await asyncio.sleep(2.0)
        times = [at for at, _ in sent]
        assert len(times) <= 53
        assert all(after - before >= 0.0199 for before, after in pairwise(times))
        everything = [at for at, changes in sent if EVERYTHING in changes]
        assert [after - before for before, after in pairwise(everything)] == pytest.approx([1.0], abs=0.03)
        assert everything[-1] >= last
        hostnames = [change.name for _, changes in sent for change in changes if change.kind == "hostname"]
        assert hostnames == [f"{n}.test" for n in range(5000)]
        assert max(at for at, changes in sent if A in changes) >= last - 0.001

    virtually(play())


def test_a_change_that_is_due_later_does_not_delay_others():
    async def play():
        sent, loop = Recorder(), asyncio.get_running_loop()
        batches = ChangeBatches(sent)
        batches.add([EVERYTHING])
        await asyncio.sleep(0.1)
        batches.add([EVERYTHING])
        await asyncio.sleep(0.1)
        now = loop.time()
        batches.add([A])
        await asyncio.sleep(0.001)
        assert sent[-1][1] == [A]
        assert sent[-1][0] == pytest.approx(now)
        await asyncio.sleep(1.0)
        assert sent[-1][1] == [EVERYTHING]

    virtually(play())


def test_pending_changes_are_bounded(caplog):
    async def play():
        sent = Recorder()
        batches = ChangeBatches(sent, pending=PendingChanges(limit=10))
        batches.add(Change("hostname", f"{n}.test") for n in range(100_000))
        await asyncio.sleep(0.001)
        [(_, changes)] = sent
        assert (len(changes), changes[0]) == (11, EVERYTHING)
        [record] = caplog.records
        assert (record.code, record.unpublished) == ("changes_overflow", 99_990)
        batches.add([A])
        await asyncio.sleep(1.0)
        assert len(caplog.records) == 1

    virtually(play())


def test_after_a_stop_nothing_is_sent():
    async def play():
        sent = Recorder()
        batches = ChangeBatches(sent)
        batches.add([A])
        batches.stop()
        await asyncio.sleep(1.0)
        assert sent == []

    virtually(play())
