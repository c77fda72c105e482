"""Open files of one worker, shared out among what needs them.

    RLIMIT_NOFILE ─┬─ others: listeners, logs, the control channel, the core API
                   ├─ clients that were turned away, while they read why
                   ├─ connections to backends: pool.idle_total, but no more than half
                   └─ clients: the rest

So a client that was let in finds a connection to its backend, however many idle clients there are: what is idle, on
either side, gives up its file for a request in flight.
"""

from typing import NamedTuple

from edge.rules.settings import LimitSettings, PoolSettings

OTHERS, FEW_OTHERS = 256, 64
"Open files besides connections to clients and backends, in a large process and at least."
MOST_LINGERING = 1024
"More clients that were turned away are not worth their open files."


class DescriptorShares(NamedTuple):
    """How many there may be of each kind."""

    clients: int
    lingering: int = MOST_LINGERING
    backends: int = 1 << 30


def needed(limits: LimitSettings, pool: PoolSettings) -> int:
    """Open files for all that the settings promise."""
    return limits.connections + pool.idle_total + OTHERS


def share_out(allowed: int | None, limits: LimitSettings, pool: PoolSettings) -> DescriptorShares:
    """What a process can keep that may open so many files. None = any number."""
    if allowed is None:
        return DescriptorShares(limits.connections)
    rest = allowed - max(FEW_OTHERS, min(OTHERS, allowed // 8))
    if allowed >= needed(limits, pool):
        clients = limits.connections
        lingering = min(MOST_LINGERING, (rest - clients) // 4)
    else:
        lingering = min(MOST_LINGERING, rest // 16)
        half = (rest - lingering) // 2
        clients = min(limits.connections, rest - lingering - min(half, max(pool.idle_total, rest // 4)))
    return DescriptorShares(max(1, clients), max(1, lingering), max(1, rest - lingering - clients))
