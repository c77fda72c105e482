"""Writes an access log line for a long exchange while it is still in progress: a tunnel, an event stream, a large
download.

    every exchange in flight ─► has it lasted `after` seconds once more? ─► line, with `ended: false`

Nothing is kept of an exchange, and nothing is on the path of requests: all that are in flight are looked at every
few seconds, some in each turn of the loop.
"""

import asyncio
from typing import Final

from edge.net.h1.h1_connection import H1Connection
from edge.net.h1.tunnel import Tunnel
from edge.net.h2.h2_stream import H2Stream
from edge.net.request.exchange_state import ExchangeState
from edge.net.worker_context import WorkerContext
from edge.rules.exchange_observers import OutcomeLog

AT_ONCE: Final = 500
"Members of the sweep looked at in one turn of the loop; half a microsecond for each."
SHORTEST_PERIOD: Final = 0.25
LONGEST_PERIOD: Final = 10.0
"Seconds between two looks: a quarter of `after`, within these bounds."


class LongExchanges:
    """Looks for exchanges that last long."""

    def __init__(self, context: WorkerContext, log: OutcomeLog, after: float) -> None:
        """`after`: seconds after which a line is written, again and again."""
        self._context = context
        self._log = log
        self._after = after
        self._looked_at = context.clock()
        "When all were looked at the last time."

    async def watch(self) -> None:
        """Look again and again, until the task is cancelled."""
        period = min(max(self._after / 4, SHORTEST_PERIOD), LONGEST_PERIOD)
        while True:
            await asyncio.sleep(period)
            await self.look()

    async def look(self) -> None:
        """Write the lines that have become due since the last look."""
        before, now = self._looked_at, self._context.clock()
        self._looked_at = now
        for count, member in enumerate(self._context.deadline_sweep, 1):
            if isinstance(member, H1Connection | H2Stream):
                if member.exchange is not None:
                    self._look_at(member.exchange, before, now)
            elif isinstance(member, Tunnel) and isinstance(member.exchange, ExchangeState):
                self._look_at(member.exchange, before, now, member.relayed)
            if count % AT_ONCE == 0:
                await asyncio.sleep(0)

    def _look_at(
        self, exchange: ExchangeState, before: float, now: float, sizes: tuple[int, int] | None = None
    ) -> None:
        if is_due(exchange.age(now), now - before, self._after) and not exchange.is_over:
            exchange.log_so_far(self._log, now, sizes)


def is_due(age: float, since: float, after: float) -> bool:
    """Whether an exchange of this age has become a multiple of `after` seconds old in the last `since` seconds."""
    return int(age / after) > int(max(0.0, age - since) / after)
