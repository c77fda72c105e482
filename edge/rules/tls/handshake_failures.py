"""Why TLS handshakes of clients fail: the reasons that `tls_accept.py` counts, as values of a metric's label."""

from typing import Final

HANDSHAKE_FAILURES: Final = (
    # of the client
    "bad_hello",
    "not_tls",
    "plain_http",
    "no_name",
    "no_protocol",
    "client_gone",
    "rejected_by_client",
    "timeout",
    "no_client_certificate",
    "bad_client_certificate",
    "revoked_client_certificate",
    "no_client_crl",
    "failed",
    # no certificate
    "absent",
    "refused",
    "issuing",
    "busy",
    "closed",
    "certificate_unusable",
    # limits of the edge
    "limit",
    "client_limit",
    "given_up",
    "edge_stopped",
)
"""`no_protocol`: the client names protocols (ALPN), and none of them is served. `failed`: OpenSSL says why, or the
certificate could not be asked for. `no_client_crl`: the authority of a client's certificate has no revocation list
that is in force (`client_crl` of a listener)."""
CERTIFICATE_LOOKUPS: Final = (
    "fresh",
    "stale",
    "asked",
    "absent",
    "failed",
    "issuing",
    "refused",
    "timeout",
    "busy",
    "closed",
)
"Results of lookups of certificates: how one was found, or why there is none."
NEVER: Final = 253402300799.0
"""Seconds since the epoch: the notAfter of what has no end (RFC 5280, section 4.1.2.5). In the metric of the
soonest notAfter it stands for a worker without certificates."""
