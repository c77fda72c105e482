"""Rejects, redirects or answers requests by the connection that they come on, before their route is looked up.

    Exchange.begin ─► gate ─► None: the route is looked up
                       └─► a redirect, 421, or the proof that an ACME authority asks for

Most connections have no gate. Those of a listener with `redirect_to_https` have `HttpsRedirect`, those whose
certificate was chosen by the name that their client sent (SNI) have `CoveredHosts`. With `tls.acme`, those without
TLS have `AcmeProofs` before it.
"""

from collections.abc import Collection
from typing import Final, NamedTuple

from edge.rules.certificates.certificate_names import is_covered
from edge.rules.outcomes import Cause
from edge.rules.tls.challenge_responses import PREFIX, ChallengeResponses

ACME_CHALLENGE: Final = PREFIX
"Where an authority looks, without TLS, for the proof that it issues a certificate to the owner (RFC 8555, 8.3)."
_HTTPS_PORT: Final = 443


class TurnedAway(NamedTuple):
    """The local reply to a request that the gate does not let through."""

    cause: Cause
    location: bytes = b""
    "Of a redirect; empty = it is none."
    body: bytes = b""
    "Of a proof for an ACME authority; empty = it is none."


class RequestGate:
    """The gate of one connection, or of all connections of a listener."""

    __slots__ = ()

    def check(self, host: str, target: bytes) -> TurnedAway | None:
        """Decide on a request; `host`: as in `Request`. None = it may pass."""
        raise NotImplementedError


class HttpsRedirect(RequestGate):
    """Redirects every request to https, but those for the challenges of ACME."""

    __slots__ = ("_port",)

    def __init__(self, port: int) -> None:
        """`port`: that of https; it is in `Location` unless it is 443."""
        self._port = b"" if port == _HTTPS_PORT else b":%d" % port

    def check(self, host: str, target: bytes) -> TurnedAway | None:
        """Decide on a request. A target that a backend could take for another path is no challenge."""
        if target.startswith(ACME_CHALLENGE) and b".." not in target and b"%" not in target:
            return None
        path = target if target[:1] == b"/" else b"/"  # OPTIONS *
        return TurnedAway(Cause.REDIRECTED, b"https://%b%b%b" % (host.encode("ascii"), self._port, path))


class AcmeProofs(RequestGate):
    """Answers an ACME authority that asks for the proof of an order under way, also when backends of the hostname
    have something there. All other requests are for the gate behind it."""

    __slots__ = ("_next", "_responses")

    def __init__(self, responses: ChallengeResponses, behind: RequestGate | None) -> None:
        self._responses = responses
        self._next = behind

    def check(self, host: str, target: bytes) -> TurnedAway | None:
        """Decide on a request."""
        if target.startswith(ACME_CHALLENGE):
            body = self._responses.find(host, target)
            if body is not None:
                self._responses.served += 1
                return TurnedAway(Cause.LOCAL_REPLY, body=body)
        return None if self._next is None else self._next.check(host, target)


_NOT_COVERED: Final = TurnedAway(Cause.HOST_NOT_COVERED)


class CoveredHosts(RequestGate):
    """Lets requests for the hostnames of a certificate through (RFC 9110, section 7.4; RFC 9113, section 9.1.2).
    The last one is remembered: most connections ask for one."""

    __slots__ = ("_last", "_names")

    def __init__(self, names: Collection[str]) -> None:
        """`names`: of the certificate, in canonical form."""
        self._names = names
        self._last = ""

    def check(self, host: str, target: bytes) -> TurnedAway | None:
        """Decide on a request: 421 if the certificate does not cover its hostname."""
        if host == self._last:
            return None
        if not is_covered(host, self._names):
            return _NOT_COVERED
        self._last = host
        return None


def gate_of_certificate(
    server_name: str | None, default: str | None, names: Collection[str]
) -> CoveredHosts | None:
    """The gate of a connection with a certificate for these names. None = every hostname is served: the client sent
    no name, or it got the certificate of `tls.default` and accepted it as it is. `default`: that hostname."""
    if server_name is None or server_name == default or not is_covered(server_name, names):
        return None
    return CoveredHosts(names)
