"""Divides the file descriptors of one worker among their uses.

    RLIMIT_NOFILE ─┬─ others: listeners, logs, the control channel, the core API
                   ├─ rejected clients in lingering close, while they read the response
                   ├─ connections to backends: pool.idle_total, but no more than half
                   └─ clients: the rest

So an accepted client can always get a connection to its backend, however many idle clients there are: an idle
connection on either side gives up its descriptor for a request in flight.
"""

from typing import NamedTuple

from edge.rules.settings import LimitSettings, PoolSettings

OTHERS, FEW_OTHERS = 256, 64
"Descriptors besides connections to clients and backends: in a large process, and at least."
MOST_LINGERING = 1024
"Most rejected clients in lingering close; more are not worth their descriptors."


class DescriptorShares(NamedTuple):
    """Limits of open connections by kind."""

    clients: int
    lingering: int = MOST_LINGERING
    backends: int = 1 << 30


def needed(limits: LimitSettings, pool: PoolSettings) -> int:
    """File descriptors that a worker needs to reach the limits in the settings."""
    return limits.connections + pool.idle_total + OTHERS


def share_out(allowed: int | None, limits: LimitSettings, pool: PoolSettings) -> DescriptorShares:
    """The shares for a process that may open `allowed` files; None = unlimited."""
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
