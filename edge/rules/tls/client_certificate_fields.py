"""Names of the header fields that pass the client's certificate to a backend (RFC 9440, and those of nginx's
examples). They are accepted from trusted proxies only: any other client could impersonate anybody with them."""

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
