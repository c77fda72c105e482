"""What is taken from certificates and responses of an ACME authority, without one."""

import pytest

pytest.importorskip("acme")

import requests
from acme import messages
from cryptography import x509

from edge.net.acme.acme_authority import AcmeAuthority, _failure, _retry_after, renewal_id
from edge.net.acme.authority import AuthorityError, OrderError, is_usable_hmac_key

RFC_9773 = b"""\
-----BEGIN CERTIFICATE-----
MIIBQzCB66ADAgECAgUAh2VDITAKBggqhkjOPQQDAjAVMRMwEQYDVQQDEwpFeGFt
cGxlIENBMCIYDzAwMDEwMTAxMDAwMDAwWhgPMDAwMTAxMDEwMDAwMDBaMBYxFDAS
BgNVBAMTC2V4YW1wbGUuY29tMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEeBZu
7cbpAYNXZLbbh8rNIzuOoqOOtmxA1v7cRm//AwyMwWxyHz4zfwmBhcSrf47NUAFf
qzLQ2PPQxdTXREYEnKMjMCEwHwYDVR0jBBgwFoAUaYhba4dGQEHhs3uEe6CuLN4B
yNQwCgYIKoZIzj0EAwIDRwAwRAIge09+S5TZAlw5tgtiVvuERV6cT4mfutXIlwTb
+FYN/8oCIClDsqBklhB9KAelFiYt9+6FDj3z4KGVelYM5MdsO3pK
-----END CERTIFICATE-----
"""


def test_the_identifier_of_the_standard():
    """RFC 9773, section 4.1 and appendix A."""
    assert renewal_id(x509.load_pem_x509_certificate(RFC_9773)) == "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"


@pytest.mark.parametrize(
    ("code", "kind", "reason"),
    [
        ("rateLimited", OrderError, "rate_limited"),
        ("rejectedIdentifier", OrderError, "rejected"),
        ("malformed", OrderError, "rejected"),
        ("serverInternal", AuthorityError, ""),
        ("accountDoesNotExist", AuthorityError, ""),
        ("unauthorized", AuthorityError, ""),
    ],
)
def test_who_is_to_blame(code, kind, reason):
    failure = _failure(messages.Error.with_code(code, detail="so it is"))
    assert isinstance(failure, kind)
    assert str(failure) == f"{code}: so it is"
    assert getattr(failure, "reason", "") == reason


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("", 0.0), ("7", 7.0), ("-1", 0.0), ("x", 0.0), ("9" * 10, 0.0), ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0)],
)
def test_retry_after(text, seconds):
    response = requests.Response()
    response.headers["Retry-After"] = text
    assert _retry_after(response) == seconds


@pytest.mark.parametrize(
    ("text", "is_usable"), [("b10lLJs8", True), ("b10lLJs", True), ("a b", False), ("", False)]
)
def test_keys_of_external_accounts(text, is_usable):
    assert is_usable_hmac_key(text) is is_usable


def test_an_authority_that_is_not_connected():
    authority = AcmeAuthority("https://127.0.0.1:9/dir")
    assert not authority.is_connected
    with pytest.raises(AuthorityError, match="not connected"):
        authority.state("https://127.0.0.1:9/order")
