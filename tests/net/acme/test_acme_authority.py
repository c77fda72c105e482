"""What is taken from certificates and responses of an ACME authority, without one."""

import json
from types import SimpleNamespace

import pytest

pytest.importorskip("acme")

import requests
from acme import messages
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from josepy.jwk import JWKEC

from edge.net.acme.acme_authority import AcmeAuthority, _failure, _retry_after, renewal_id
from edge.net.acme.authority import AuthorityError, OrderError, is_usable_hmac_key, new_key

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


class Scripted(AcmeAuthority):
    """An authority with one order. `posted`: the states of challenge and order after a POST, and what it raises."""

    def __init__(self, *, challenge="pending", order="ready", posted=None):
        super().__init__("https://ca.test/dir")
        self.challenge, self.order, self.posted = challenge, order, posted
        self._client = SimpleNamespace(net=SimpleNamespace(key=JWKEC(key=load_pem_private_key(new_key(), None))))

    def _post(self, url, content, *, is_about_name=False):
        if content is not None:
            self.challenge, self.order, error = self.posted
            if error is not None:
                raise error
        names = {"type": "dns", "value": "shop.test"}
        challenge = {"type": "http-01", "url": "https://ca.test/c", "token": "A" * 43, "status": self.challenge}
        said = {
            "https://ca.test/order": {
                "status": self.order,
                "identifiers": [names],
                "authorizations": ["https://ca.test/a"],
                "finalize": "https://ca.test/f",
            },
            "https://ca.test/a": {"status": "pending", "identifier": names, "challenges": [challenge]},
        }.get(url, {})
        response = requests.Response()
        response._content = json.dumps(said).encode()
        return response


REJECTED = OrderError("rejected", "malformed: Cannot update challenge with status valid, only status pending")


def test_a_challenge_that_was_answered_before():
    """By an issuer that has ended; the authority looked after the challenge was read, and before it is answered."""
    Scripted(posted=("valid", "pending", REJECTED)).answer("https://ca.test/order")
    Scripted(posted=("processing", "pending", REJECTED)).answer("https://ca.test/order")
    Scripted(challenge="valid", posted=("valid", "pending", AssertionError())).answer("https://ca.test/order")
    with pytest.raises(OrderError, match="malformed"):
        Scripted(posted=("pending", "pending", REJECTED)).answer("https://ca.test/order")


def test_an_order_that_was_finalized_before():
    Scripted(posted=("valid", "processing", REJECTED)).finalize("https://ca.test/order", "shop.test", new_key())
    Scripted(posted=("valid", "valid", REJECTED)).finalize("https://ca.test/order", "shop.test", new_key())
    with pytest.raises(OrderError, match="malformed"):
        Scripted(posted=("valid", "ready", REJECTED)).finalize("https://ca.test/order", "shop.test", new_key())
