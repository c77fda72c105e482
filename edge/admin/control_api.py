"""The interface through which the admin server queries and controls workers and master.

`run/control/control_server.py` implements it. Every result lists the workers that did not reply: a worker may be
stalled, dead, or about to end.
"""

from typing import Protocol

from edge.admin.admin_messages import CommandResult, Configuration, LogLevels, OperatorDrain, WorkerReplies
from edge.rules.acme.issuance_records import ExplainedIssuance


class ControlApi(Protocol):
    """Sends each request to all workers at once, and waits for their replies until a deadline."""

    async def snapshots(self) -> WorkerReplies:
        """Get `metrics_table.worker_status` of each worker."""

    async def explain(self, host: str) -> WorkerReplies:
        """Get `ExplainedRoute` of each worker, or null if it knows nothing about the hostname."""

    async def issuance(self, host: str) -> ExplainedIssuance | None:
        """The state of the orders of a hostname's certificate; None = styx orders none (`tls.acme`)."""

    async def routes(self, start: int, most: int, site: str, freshness: str) -> WorkerReplies:
        """Get `RoutePage` of each worker."""

    async def search_name(self, kind: str, name: str) -> WorkerReplies:
        """Get `KnownName` of each worker, for a hostname or the name of a drain."""

    async def statuses(self) -> WorkerReplies:
        """Get `environment_status_records.WorkerStatus` of each worker."""

    async def top(self) -> WorkerReplies:
        """Get `top_records.TopReport` of each worker."""

    async def invalidate(self, kind: str, name: str) -> WorkerReplies:
        """Expire routes: look them up before the next request is served. Each worker replies how many there are."""

    async def drain(self, drain: OperatorDrain) -> WorkerReplies:
        """Begin or end a drain; each worker replies how many drains it has now. Raises TooManyDrains."""

    def drains(self) -> list[OperatorDrain]:
        """The current drains."""

    async def clients(self) -> WorkerReplies:
        """Get `client_records.ClientList` of each worker."""

    async def log_levels(self) -> LogLevels:
        """The level of the event log, of this process and of each worker."""

    async def set_log_level(self, level: str, seconds: float) -> LogLevels:
        """Override the level of the event log in all processes for so many seconds; 0 = end the override."""

    def configuration(self) -> Configuration:
        """The settings in force."""

    async def command(self, what: str) -> CommandResult:
        """Send the master a command, `reload` or `upgrade`. Returns when it is done or has failed."""
