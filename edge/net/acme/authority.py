"""The interface of an ACME authority as the issuer uses it, independent of the library behind it
(`acme_authority.py`)."""

import base64
import binascii
from typing import NamedTuple, Protocol

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec


class AuthorityError(Exception):
    """The authority could not be reached, or does not work; no name is to blame. `retry_after`: seconds after which
    it wants to be asked again; 0 = it does not say."""

    def __init__(self, details: str, retry_after: float = 0.0) -> None:
        super().__init__(details)
        self.retry_after = retry_after


class OrderError(Exception):
    """An order has failed. `reason`: a stable code, as in `explain_issuance.REASONS`."""

    def __init__(self, reason: str, details: str, retry_after: float = 0.0) -> None:
        super().__init__(details)
        self.reason = reason
        self.retry_after = retry_after


class OrderState(NamedTuple):
    """The state of an order."""

    status: str
    "pending, ready, processing, valid or invalid."
    retry_after: float
    "Seconds after which to ask again, as the authority says; 0 = it does not."


class Proof(NamedTuple):
    """The response to a challenge, which the edge must serve while the order is pending."""

    token: str
    response: str


class ExternalAccount(NamedTuple):
    """An account with the company that runs the authority (EAB)."""

    key_id: str
    hmac_key: str
    "base64url."


class CertificateAuthority(Protocol):
    """An authority, with the account that the edge has there. Every method blocks; one is called at a time."""

    @property
    def is_connected(self) -> bool:
        """Whether `connect` has succeeded."""

    def connect(self, key: bytes, contact: tuple[str, ...], external: ExternalAccount | None) -> str:
        """Read the directory, and find or make the account of this key (PEM). Returns its URL. Raises
        AuthorityError."""

    def begin(self, hostname: str, profile: str) -> str:
        """Order a certificate for one hostname. Returns the URL of the order. Raises AuthorityError, OrderError."""

    def state(self, order_url: str) -> OrderState:
        """Ask for the state of an order. Raises AuthorityError, OrderError."""

    def proof(self, order_url: str) -> Proof:
        """The response that the edge must serve before `answer`. Raises AuthorityError, OrderError."""

    def answer(self, order_url: str) -> None:
        """Tell the authority that the edge serves the proof. Raises AuthorityError, OrderError."""

    def finalize(self, order_url: str, hostname: str, key: bytes) -> None:
        """Have the certificate for this key (PEM) issued; the order is ready. Raises AuthorityError, OrderError."""

    def certificate(self, order_url: str) -> str:
        """The certificate with its issuers, as PEM; the order is valid. Raises AuthorityError, OrderError."""

    def renewal_window(self, chain: bytes) -> tuple[tuple[float, float] | None, float | None]:
        """The window in which to renew this certificate (ARI), or None; and after how many seconds to ask again.
        Raises AuthorityError."""


def new_key() -> bytes:
    """A new key for P-256, as PEM."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def is_usable_hmac_key(text: str) -> bool:
    """Whether this is a key of an external account: base64url, with or without padding."""
    try:
        return bool(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError):
        return False
