"""The objects that the TLS connections of one worker share: BIOs, contexts, certificates, limits and counters."""

import ssl
import time
from collections import Counter
from collections.abc import Callable, Mapping

from edge.net.certificates.certificate_finder import CertificateFinder
from edge.net.tls.bio_pair import BioPair
from edge.net.tls.client_verification import ClientVerification
from edge.net.tls.handshake_result import HandshakeResult
from edge.net.tls.handshakes import Handshakes
from edge.net.tls.ticket_rotation import TicketRotation
from edge.net.tls.tls_contexts import BaseContexts, HostContexts
from edge.net.transport.read_budget import ReadBudget
from edge.rules.settings import LimitSettings
from edge.rules.settings.listeners import ClientVerificationFiles
from edge.rules.tls.handshake_limit import HandshakeLimit


class TlsService:
    """Made once for each worker with TLS listeners."""

    __slots__ = (
        "alerts",
        "bases",
        "bios",
        "certificates",
        "client_limit",
        "default",
        "failures",
        "handshakes",
        "hosts",
        "observe",
        "results",
        "rotation",
        "turns",
        "verifications",
        "wall",
    )

    def __init__(
        self,
        *,
        bases: BaseContexts,
        rotation: TicketRotation,
        hosts: HostContexts,
        certificates: CertificateFinder,
        default: str | None = None,
        handshakes: Handshakes,
        client_limit: HandshakeLimit,
        turns: ReadBudget,
        verifications: Mapping[ClientVerificationFiles, ClientVerification] | None = None,
        bios: BioPair | None = None,
        observe: Callable[[HandshakeResult], None] | None = None,
    ) -> None:
        """`default`: the hostname whose certificate is served without SNI and for unknown names; None = such
        handshakes are refused. `turns`: the time for ClientHellos and handshakes in each turn of the loop; for
        nothing else, because established connections wait for it. `verifications`: of client certificates, by what
        they are verified with. `observe` gets each completed handshake."""
        self.bios = bios or BioPair()
        self.bases = bases
        self.rotation = rotation
        "A member of the deadline sweep."
        self.hosts = hosts
        self.certificates = certificates
        self.default = default
        self.handshakes = handshakes
        self.client_limit = client_limit
        self.turns = turns
        self.verifications = verifications or {}
        self.wall: Callable[[], float] = time.time
        "Unix time."
        self.observe = observe
        self.results: Counter[tuple[str, bool]] = Counter()
        "Completed handshakes, by version and whether they were resumed."
        self.failures: Counter[str] = Counter()
        "Handshakes that failed, by reason; the reasons are those of `tls_accept.py`."
        self.alerts: Counter[int] = Counter()
        "Alerts sent instead of a handshake, by number."

    @property
    def soonest_crl_end(self) -> float | None:
        """When the first revocation list of clients ends, Unix time; None = there is none."""
        ends = (verification.soonest_end for verification in self.verifications.values())
        return min((end for end in ends if end is not None), default=None)

    def reconfigure(self, limits: LimitSettings) -> None:
        """Apply these limits to new handshakes."""
        self.handshakes.reconfigure(limits.handshakes)
        self.client_limit.reconfigure(limits.handshakes_per_client)

    def close(self) -> None:
        """End the thread that builds contexts."""
        self.hosts.close()

    def record(self, tls: ssl.SSLObject, server_name: str | None, seconds: float) -> HandshakeResult:
        """Count a completed handshake and return what it came to."""
        result = HandshakeResult(
            tls.version() or "",
            resumed=bool(tls.session_reused),
            alpn=tls.selected_alpn_protocol() or "",
            server_name=server_name,
            seconds=seconds,
        )
        self.results[result.version, result.resumed] += 1
        if self.observe is not None:
            self.observe(result)
        return result
