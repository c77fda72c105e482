"""The recent records for workers that connect, bounded in number and bytes."""

import pytest

from edge.rules.routing.route_records import in_batches
from edge.run.control.control_messages import MOST_RECORD_BYTES
from edge.run.routes.recent_records import RecentRecords


@pytest.mark.parametrize(
    ("sizes", "batches"),
    [
        ([], []),
        ([5], [1]),
        ([1] * 7, [3, 3, 1]),
        ([60, 60, 60], [1, 1, 1]),
        ([50, 50, 50], [2, 1]),
        ([500, 1, 1, 500], [1, 2, 1]),
    ],
)
def test_batches(sizes, batches):
    """At most three records and a hundred bytes, unless one alone has more."""
    records = [bytes([n]) * size for n, size in enumerate(sizes)]
    found = list(in_batches(records, 3, 100))
    assert [len(batch) for batch in found] == batches
    assert [record for batch in found for record in batch] == records


def test_the_oldest_are_dropped():
    recent = RecentRecords(most=3, most_bytes=100)
    for n in range(10):
        recent.add([bytes([n]) * 10])
    assert (len(recent), recent.size) == (3, 30)
    recent.add([b"x" * 95])
    assert [record for batch in recent.batches() for record in batch] == [b"x" * 95]


def test_many_large_records_fit_into_messages():
    recent = RecentRecords()
    recent.add(bytes(20_000) for _ in range(1000))
    assert recent.size <= 16 << 20
    batches = list(recent.batches())
    assert max(sum(map(len, batch)) for batch in batches) <= MOST_RECORD_BYTES
    assert sum(map(len, batches)) == len(recent)
