"""One question for a certificate, and the handshakes that wait for it."""

import asyncio

from edge.rules.certificates.certificates import Certificate
from edge.rules.tls.client_hello import Alert


class NoCertificate(Exception):
    """There is no certificate to serve. `alert`: what the client is told. `reason`: why, a label of a metric:
    absent, failed, issuing, refused (the client named too many unknown hosts), timeout, busy, closed."""

    def __init__(self, alert: Alert, reason: str) -> None:
        super().__init__(reason)
        self.alert = alert
        self.reason = reason


Outcome = Certificate | NoCertificate


class CertificateQuestion:
    """One question that is under way."""

    __slots__ = ("_waiters", "hostname", "is_outdated", "task", "until")

    def __init__(self, hostname: str) -> None:
        self.hostname = hostname
        self.task: asyncio.Task[None] | None = None
        self._waiters: dict[asyncio.Future[Outcome], None] = {}
        self.until = 0.0
        "The latest deadline of those that wait: no longer is a certificate waited for that is being issued."
        self.is_outdated = False
        "Whether something about the name has changed since the question began."

    def __repr__(self) -> str:
        return f"<CertificateQuestion {self.hostname} {len(self._waiters)} waiting>"

    async def outcome(self, deadline: float) -> Outcome:
        """Wait for the outcome. Who is cancelled leaves the others waiting."""
        waiter: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiters[waiter] = None
        self.until = max(self.until, deadline)
        try:
            return await waiter
        finally:
            self._waiters.pop(waiter, None)

    def take_waiters(self) -> list[asyncio.Future[Outcome]]:
        """All that wait, in the order of arrival. The question is over."""
        taken = list(self._waiters)
        self._waiters.clear()
        return taken
