"""Recent records of routes for workers that connect: they have read the file, which may be a moment behind."""

from collections import deque
from collections.abc import Iterable, Iterator

from edge.rules.routing.route_records import in_batches
from edge.run.control.control_messages import MOST_RECORD_BYTES, MOST_RECORDS

MOST = 50_000
MOST_BYTES = 16 << 20
"Maximum of records, and of their bytes."


class RecentRecords:
    """The latest records, in their order; bounded in number and in bytes."""

    def __init__(self, most: int = MOST, most_bytes: int = MOST_BYTES) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._records: deque[bytes] = deque()
        self.size = 0
        "Bytes of all records."

    def __len__(self) -> int:
        return len(self._records)

    def add(self, records: Iterable[bytes]) -> None:
        """Add these records; the oldest are dropped beyond the limits."""
        for record in records:
            self._records.append(record)
            self.size += len(record)
        while self._records and (len(self._records) > self._most or self.size > self._most_bytes):
            self.size -= len(self._records.popleft())

    def batches(self) -> Iterator[list[bytes]]:
        """All records, in batches that fit into one message."""
        for batch in in_batches(list(self._records), MOST_RECORDS, MOST_RECORD_BYTES):
            yield list(batch)
