"""The writer of routes: its queue is bounded, and an error of the disk is logged once and ends nothing."""

import struct

import pytest
from structlog.testing import capture_logs

from edge.net.background import Background
from edge.rules.background_tasks import BackgroundTask
from edge.run.routes.route_writer import RouteWriter


class StoreDouble:
    """A store on a disk that is full for a while."""

    def __init__(self):
        self.full = False
        self.saved = []

    def mend(self):
        pass

    def append(self, records):
        if self.full:
            raise OSError(28, "No space left on device")
        self.saved += records


@pytest.fixture
def store():
    return StoreDouble()


async def test_queued_records_are_written_at_the_end_in_their_order(store):
    route_writer = RouteWriter(store)
    route_writer.write([b"1", b"2"])
    route_writer.write([b"3"])
    await route_writer.close()
    assert store.saved == [b"1", b"2", b"3"]


async def test_queued_records_are_bounded(store):
    route_writer = RouteWriter(store, most=100)
    for _ in range(50):
        route_writer.write([bytes(10)])
    await route_writer.close()
    assert len(store.saved) == 10


async def test_a_full_disk_is_logged_once_and_later_records_are_saved(store, until):
    route_writer = RouteWriter(store, pause=0.0)
    route_writer.start()
    store.full = True
    with capture_logs() as events:
        for _ in range(3):
            route_writer.write([b"lost"])
            await until(lambda: not route_writer._waiting)
        await until(lambda: events)
        store.full = False
        route_writer.write([b"kept"])
        await until(lambda: store.saved[-1:] == [b"kept"])
    await route_writer.close()
    errors = [event for event in events if event["code"] == "routes_not_saved"]
    assert len(errors) == 1
    assert "No space left" in errors[0]["error"]


FAULTS = ValueError("no record"), struct.error("bad"), MemoryError(), RecursionError()


@pytest.mark.parametrize("fault", FAULTS, ids=repr)
async def test_a_bad_record_does_not_end_the_writer(store, until, fault):
    """Nor does a file that cannot be repaired."""
    route_writer = RouteWriter(store, pause=0.0)
    faults = [fault]
    store.mend = lambda: (_ for _ in ()).throw(fault)
    append = store.append

    def append_or_fail(records):
        if faults:
            raise faults.pop()
        append(records)

    store.append = append_or_fail
    with capture_logs() as events:
        route_writer.start()
        route_writer.write([b"bad"])
        await until(lambda: not faults and not route_writer._waiting)
        route_writer.write([b"good"])
        await until(lambda: store.saved == [b"good"])
        await route_writer.close()
    assert [event["code"] for event in events] == ["routes_not_saved"], "the same fault twice is logged once"


async def test_a_writer_that_ends_is_started_again(store, until):
    failures = []
    route_writer = RouteWriter(store, Background(failures.append, pause=lambda *_: 0.0), pause=0.0)
    writing = route_writer._write_now

    async def fails_once():
        route_writer._write_now = writing
        raise AssertionError("a fault of ours")

    route_writer._write_now = fails_once
    route_writer.start()
    route_writer.write([b"1"])
    await until(lambda: store.saved == [b"1"])
    await route_writer.close()
    assert failures == [BackgroundTask.ROUTE_WRITER]
