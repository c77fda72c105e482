"""The interface of a source of certificates as the TLS step of the accept chain uses it: the core API, or a
directory of files."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Protocol

from edge.net.certificates.certificate_lookup import NoCertificate
from edge.rules.certificates.certificates import Certificate
from edge.rules.environment_status_records import CertificateStatus
from edge.rules.explain_records import ExplainedCertificate
from edge.rules.limits.lookup_queue import Done, WaitingLookup


class CertificateFinder(Protocol):
    """Where the step of the accept chain gets certificates from: the core API, or a directory of files."""

    results: Counter[str]
    "Lookups by result (`handshake_failures.CERTIFICATE_LOOKUPS`)."

    @property
    def soonest_not_after(self) -> float | None:
        """The earliest notAfter of all certificates, in seconds since the epoch; None = there is none."""

    @property
    def faults(self) -> int:
        """Files that are not used, or not with their newest content; -1 = their directory cannot be read. 0 for a
        source without files."""

    @property
    def rejected(self) -> Mapping[str, int]:
        """Responses of the core API that were not used, by reason; empty for a source without responses."""

    def ending_first(self) -> list[CertificateStatus]:
        """The certificates that end first."""

    def find(self, hostname: str) -> Certificate | None:
        """The certificate of a name, if it can be served at once."""

    def refuse(self, hostname: str, client: str) -> NoCertificate | None:
        """Why a handshake for a name that `find` has not found is refused at once; None = `lookup` has to tell. It
        counts as a lookup. `client`: address of who asks."""

    def queue(
        self, hostname: str, client: str, deadline: float, go_on: Done, refused: Callable[[], None]
    ) -> WaitingLookup | None:
        """Wait, without a task, until a lookup for a name that nobody knows may begin. None = `lookup` is to be
        called now. Else `go_on` is called when it is to be, or `refused` when the client may not ask; unless it
        leaves before."""

    def leave(self, waiting: WaitingLookup) -> None:
        """Wait no longer. It may have been called."""

    async def lookup(self, hostname: str, client: str | None, *, deadline: float) -> Certificate:
        """The certificate of a name. Waits until `deadline`, on the clock of the worker. `client`: address of who
        asks; None = the edge itself. Raises NoCertificate."""

    def explain(self, hostname: str) -> ExplainedCertificate | None:
        """Explain the certificate of a name to operators; None = nothing is known."""
