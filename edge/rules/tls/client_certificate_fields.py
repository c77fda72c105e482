"""Names of the fields that tell a backend which certificate the client has shown (RFC 9440, and those of nginx's
examples). Believed only of trusted proxies: a client that could send them would be whoever it likes."""

from typing import Final

CERTIFICATE_FIELDS: Final = (
    b"X-Client-Cert-Verify",
    b"X-Client-Cert-Subject",
    b"X-Client-Cert-Issuer",
    b"X-Client-Cert-Serial",
    b"X-Client-Cert-Fingerprint",
    b"X-Client-Cert-Not-After",
    b"X-Client-Cert-San",
    b"Client-Cert",
    b"Client-Cert-Chain",
)
