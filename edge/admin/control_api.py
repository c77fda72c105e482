"""What the admin server needs from the workers and the master; `run/control/control_server.py` provides it.

Answers always say which workers did not give one: a worker may be stalled, just dead, or about to end.
"""

from typing import Protocol

from edge.admin.admin_messages import Answers, CommandResult, OperatorDrain


class ControlApi(Protocol):
    """Asks all workers at once, with a deadline."""

    async def snapshots(self) -> Answers:
        """`metrics_table.worker_status` of each."""

    async def explain(self, host: str) -> Answers:
        """`ExplainedRoute` of each, or null."""

    async def routes(self, start: int, most: int, site: str, freshness: str) -> Answers:
        """`RoutePage` of each."""

    async def invalidate(self, kind: str, name: str) -> Answers:
        """How many routes each forgot."""

    async def drain(self, drain: OperatorDrain) -> Answers:
        """How many drains each has now."""

    def drains(self) -> list[OperatorDrain]:
        """What is drained now."""

    async def wish(self, what: str) -> CommandResult:
        """Have the master do it: `reload` or `upgrade`. Waits until it is done or has failed."""
