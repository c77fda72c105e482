"""One lookup of a certificate in progress, and the handshakes that wait for it."""

import asyncio

from edge.rules.certificates.certificate_table import CertificateState, CertificateTable
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


class CertificateLookup:
    """One lookup that is under way."""

    __slots__ = ("_waiters", "hostname", "is_outdated", "task", "until")

    def __init__(self, hostname: str) -> None:
        self.hostname = hostname
        self.task: asyncio.Task[None] | None = None
        self._waiters: dict[asyncio.Future[Outcome], None] = {}
        self.until = 0.0
        "The latest deadline of those that wait: no longer is a certificate waited for that is being issued."
        self.is_outdated = False
        "Whether something about the name has changed since the lookup began."

    def __repr__(self) -> str:
        return f"<CertificateLookup {self.hostname} {len(self._waiters)} waiting>"

    async def outcome(self, deadline: float) -> Outcome:
        """Wait for the outcome. Who is cancelled leaves the others waiting."""
        waiter: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiters[waiter] = None
        self.until = max(self.until, deadline)
        try:
            return await waiter
        finally:
            self._waiters.pop(waiter, None)

    async def outcome_within(self, seconds: float, deadline: float) -> Outcome | None:
        """The same, for so many seconds at most. None = there was none."""
        try:
            async with asyncio.timeout(seconds):
                return await self.outcome(deadline)
        except TimeoutError:
            return None

    def take_waiters(self) -> list[asyncio.Future[Outcome]]:
        """All that wait, in the order of arrival. The lookup is over."""
        taken = list(self._waiters)
        self._waiters.clear()
        return taken


def certificate_or_raise(outcome: Outcome) -> Certificate:
    """The certificate. Raises NoCertificate."""
    if isinstance(outcome, NoCertificate):
        raise NoCertificate(outcome.alert, outcome.reason)  # each one of its own: an exception keeps its traceback
    return outcome


def known_miss(
    table: CertificateTable, hostname: str, state: CertificateState, deadline: float
) -> NoCertificate | None:
    """Why there is no certificate, or none until `deadline`, if that is known."""
    if state is CertificateState.ABSENT:
        return NoCertificate(Alert.UNRECOGNIZED_NAME, "absent")
    if state is CertificateState.FAILED:
        return NoCertificate(Alert.INTERNAL_ERROR, "failed")
    if state is CertificateState.ISSUING and table.issued_at(hostname) >= deadline:
        return NoCertificate(Alert.INTERNAL_ERROR, "issuing")
    return None


def release(waiter: "asyncio.Future[Outcome]", outcome: Outcome) -> None:
    """Let a handshake go on that waits for a lookup, if it still waits."""
    if not waiter.done():
        waiter.set_result(outcome)
