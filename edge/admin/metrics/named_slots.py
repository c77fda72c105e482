"""Metrics of items that the settings name, such as listeners and sites: one slot for each in every row of the
scoreboard.

Rows outlive processes, and their next process may have other settings. So a slot says whose it is, by a hash of the
name; a process that finds another one's slot sets its numbers to zero, which Prometheus takes for a restart.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from edge.admin.metric_sources import NamedGroup
from edge.admin.scoreboard import LAYOUT, Layout, Row, cell
from edge.rules.traffic.listener_counts import ListenerCounts


def identity(name: str) -> float:
    """A number for a name, which a cell holds exactly."""
    return float(int.from_bytes(hashlib.sha256(name.encode()).digest()[:6]) or 1)


def take_slots(row: Row, group: NamedGroup, names: Sequence[str], layout: Layout = LAYOUT) -> None:
    """Make the first slots of this group in a row those of these names, as many as there are slots."""
    owners = layout.owners[group]
    for slot, name in enumerate(names[: group.most]):
        if row.cells[owners + slot] != identity(name):
            for start, size in layout.slots_of(group, slot):
                for cell in range(start, start + size):
                    row.cells[cell] = 0.0
            row.cells[owners + slot] = identity(name)


def slots_by_owner(row: Row, group: NamedGroup, layout: Layout = LAYOUT) -> Mapping[float, int]:
    """The slot of each owner in this row."""
    owners = layout.owners[group]
    return {owner: slot for slot, owner in enumerate(row.cells[owners : owners + group.most].tolist()) if owner}


class ListenerNumbers:
    """Publishes the counters of the listeners of one worker, each time with what was in its row before."""

    def __init__(self, row: Row, names: Sequence[str]) -> None:
        self._row = row
        distinct = list(dict.fromkeys(names))  # several listeners may be on a port that the kernel chooses
        self._slots = {name: slot for slot, name in enumerate(distinct[: NamedGroup.LISTENER.most])}
        take_slots(row, NamedGroup.LISTENER, distinct)
        self._cells = [LAYOUT.cells[name][""] for name in _OF_LISTENERS]
        self._bases = [row.cells[cell + slot] for cell in self._cells for slot in self._slots.values()]

    def publish(self, listeners: Iterable[ListenerCounts]) -> None:
        """Write the present numbers to the row."""
        count = len(self._slots)
        for counts in listeners:
            slot = self._slots.get(counts.name)
            if slot is not None:
                for n, number in enumerate((counts.accepted, counts.requests)):
                    self._row.cells[self._cells[n] + slot] = self._bases[n * count + slot] + number
                self._row.cells[OPEN_ON + slot] = counts.connections


def connections_on(row: Row) -> Mapping[float, float]:
    """Connections of clients that this process has open, by the `identity` of their listener."""
    return {
        owner: row.cells[OPEN_ON + slot]
        for owner, slot in slots_by_owner(row, NamedGroup.LISTENER, row.layout).items()
    }


OPEN_ON: Final = cell("styx_listener_connections")
"First of the cells with the connections that are open, one for each slot of a listener."
_OF_LISTENERS = ("styx_listener_connections_accepted_total", "styx_listener_requests_total")
"In the order in which `publish` reads them."
