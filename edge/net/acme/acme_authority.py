"""The ACME client (RFC 8555), based on certbot's library `acme`, which the extra `acme` installs.

    connect ─► begin ─► proof ─► answer ─► poll … ─► finalize ─► poll … ─► certificate
                         └─ for http-01: what the edge must serve

Every method makes one or a few requests and blocks meanwhile: call it in a thread, one call at a time. Nothing is
decided here; what went wrong is said by an exception.
"""

import base64
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, TypeVar

import requests
from acme import challenges, client, crypto_util, errors, messages
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from josepy.errors import Error as JoseError
from josepy.jwa import ES256
from josepy.jwk import JWK, JWKEC

from edge.net.acme.authority import AuthorityError, ExternalAccount, OrderError, OrderState, Proof

TIMEOUT: Final = 15
"Seconds for the authority to respond to one request."
MOST_CHAIN: Final = 64 * 1024
"Characters of a certificate with its issuers."
MOST_NONCES: Final = 4
"Attempts with another nonce; the library makes two each time."
FAILURES: Final = (messages.Error, errors.Error, requests.RequestException, JoseError, ValueError)
"What the library raises when an authority cannot be asked, refuses, or sends nonsense."

T = TypeVar("T")
_OF_AUTHORITY: Final = frozenset({"serverInternal", "badNonce", "externalAccountRequired", "accountDoesNotExist"})
"Problems (RFC 8555, section 6.7) that are of no name."
_OF_ACCOUNT: Final = frozenset({"unauthorized", "userActionRequired", "unsupportedContact", "invalidContact"})
"Problems that are of no name, when the account or an order is asked for."


class AcmeAuthority:
    """One authority, with the account that the edge has there."""

    def __init__(self, directory_url: str, *, ca_file: str | None = None, user_agent: str = "styx") -> None:
        """`ca_file`: the authorities that are believed for its own server; None = those of the system."""
        self._directory_url = directory_url
        self._ca_file = ca_file
        self._user_agent = user_agent
        self._client: client.ClientV2 | None = None

    @property
    def is_connected(self) -> bool:
        """Whether `connect` has succeeded."""
        return self._client is not None

    def connect(self, key: bytes, contact: tuple[str, ...], external: ExternalAccount | None) -> str:
        """Read the directory, and find or make the account of this key (PEM): an authority returns one that is
        there already (RFC 8555, section 7.3.1). Returns its URL. Raises AuthorityError."""
        own = JWKEC(key=load_pem_private_key(key, None))
        net = client.ClientNetwork(own, alg=ES256, user_agent=self._user_agent, timeout=TIMEOUT)
        if self._ca_file is not None:
            net.verify_ssl = self._ca_file  # type: ignore[assignment]  # `requests` takes the path of a file
        try:
            found = client.ClientV2(client.ClientV2.get_directory(self._directory_url, net), net)
            url = _account_url(found, own, contact, external)
            net.account = messages.RegistrationResource(uri=url, body=messages.Registration())
        except (*FAILURES, KeyError) as error:
            raise AuthorityError(_words(error), _retry_after_of(error)) from error
        self._client = found
        return url

    # an order

    def begin(self, hostname: str, profile: str) -> str:
        """Order a certificate for one hostname. Returns the URL of the order. Raises AuthorityError, OrderError."""
        identifier = messages.Identifier(typ=messages.IDENTIFIER_FQDN, value=hostname)
        order = messages.NewOrder(identifiers=[identifier], profile=profile)
        response = self._post(self._url("newOrder"), order, is_about_name=True)
        return str(response.headers["Location"])

    def state(self, order_url: str) -> OrderState:
        """Ask for the state of an order. Raises AuthorityError, OrderError."""
        response = self._post(order_url, None)
        order = _decoded(messages.Order, response)
        status = str(getattr(order.status, "name", ""))
        if status == "invalid":
            raise self._why_invalid(order)
        return OrderState(status, _retry_after(response))

    def proof(self, order_url: str) -> Proof:
        """The response that the edge must serve before `answer`. Raises AuthorityError, OrderError."""
        challenge, key = self._challenge(order_url)
        _, validation = challenge.response_and_validation(key)
        return Proof(challenge.chall.encode("token"), validation)

    def answer(self, order_url: str) -> None:
        """Tell the authority that the edge serves the proof. Raises AuthorityError, OrderError."""
        challenge, key = self._challenge(order_url)
        if challenge.status == messages.STATUS_PENDING:
            try:
                self._post(challenge.uri, challenge.response(key))
            except OrderError:  # an issuer that has ended had told it, and the authority has looked meanwhile
                if self._challenge(order_url)[0].status == messages.STATUS_PENDING:
                    raise

    def finalize(self, order_url: str, hostname: str, key: bytes) -> None:
        """Have the certificate for this key (PEM) issued; the order is ready. Raises AuthorityError, OrderError."""
        order = _decoded(messages.Order, self._post(order_url, None))
        request = x509.load_pem_x509_csr(crypto_util.make_csr(key, [hostname]))
        try:
            self._post(str(order.finalize), messages.CertificateRequest(csr=request))
        except OrderError:  # as in `answer`: it was finalized before, with the same key
            if self.state(order_url).status == "ready":
                raise

    def certificate(self, order_url: str) -> str:
        """The certificate with its issuers, as PEM; the order is valid. Raises AuthorityError, OrderError."""
        order = _decoded(messages.Order, self._post(order_url, None))
        chain = self._post(str(order.certificate), None).text
        if len(chain) > MOST_CHAIN:
            raise OrderError("unusable", f"a certificate of {len(chain)} characters")
        return chain

    # renewal

    def renewal_window(self, chain: bytes) -> tuple[tuple[float, float] | None, float | None]:
        """The window in which the authority suggests to renew this certificate (ARI, RFC 9773): start and end,
        seconds since the epoch, or None = it has no such thing; and after how many seconds it wants to be asked
        again. Raises AuthorityError."""
        url = self._directory().get("renewalInfo")
        if not isinstance(url, str):
            return None, None
        leaf = x509.load_pem_x509_certificate(chain)
        try:
            response = self._connected.net.get(f"{url}/{renewal_id(leaf)}")
            window = messages.RenewalInfo.from_json(response.json()).suggested_window
            start, end = window.start.timestamp(), window.end.timestamp()
        except (*FAILURES, AttributeError) as error:
            raise AuthorityError(_words(error), _retry_after_of(error)) from error
        return ((start, end) if start <= end else None), _retry_after(response) or None

    # requests

    @property
    def _connected(self) -> client.ClientV2:
        if self._client is None:
            raise AuthorityError("not connected")
        return self._client

    def _directory(self) -> dict[str, Any]:
        return self._connected.directory.to_partial_json()

    def _url(self, name: str) -> str:
        try:
            return str(self._directory()[name])
        except KeyError:
            raise AuthorityError(f"its directory has no {name}") from None

    def _post(self, url: str, content: Any, *, is_about_name: bool = False) -> requests.Response:
        """POST, or with None POST-as-GET. `is_about_name`: a rejection is that of a name."""
        try:
            net, nonces = self._connected.net, self._url("newNonce")
            response = _with_good_nonce(lambda: net.post(url, content, new_nonce_url=nonces))
        except messages.Error as error:
            raise _failure(error) from error
        except FAILURES as error:
            raise AuthorityError(_words(error), _retry_after_of(error)) from error
        if is_about_name and "Location" not in response.headers:
            raise AuthorityError("an order without a Location")
        return response

    def _challenge(self, order_url: str) -> tuple[messages.ChallengeBody, JWK]:
        order = _decoded(messages.Order, self._post(order_url, None))
        key = self._connected.net.key
        assert key is not None
        for url in order.authorizations:
            authorization = _decoded(messages.Authorization, self._post(url, None))
            for challenge in authorization.challenges:
                if isinstance(challenge.chall, challenges.HTTP01):
                    return challenge, key
        raise OrderError("rejected", "the authority offers no http-01")

    def _why_invalid(self, order: messages.Order) -> OrderError:
        """Why an order has failed: the error of its challenge says most."""
        for url in order.authorizations or ():
            authorization = _decoded(messages.Authorization, self._post(url, None))
            for challenge in authorization.challenges:
                if challenge.error is not None:
                    return OrderError("proof_failed", _words(challenge.error))
        return OrderError("rejected", _words(order.error) if order.error is not None else "the order is invalid")


def _account_url(
    found: client.ClientV2, key: JWKEC, contact: tuple[str, ...], external: ExternalAccount | None
) -> str:
    binding = None
    if external is not None:
        binding = messages.ExternalAccountBinding.from_data(
            key.public_key(), external.key_id, external.hmac_key, found.directory
        )
    elif found.external_account_required():
        raise ValueError("the authority asks for an external account: tls.acme.eab_key_id and eab_key_file")
    wanted = messages.NewRegistration(
        key=key.public_key(),
        contact=tuple(f"mailto:{address}" for address in contact),
        terms_of_service_agreed=True,
        external_account_binding=binding,
    )
    try:
        return str(_with_good_nonce(lambda: found.new_account(wanted)).uri)
    except errors.ConflictError as error:
        return str(error.location)


def _with_good_nonce(ask: Callable[[], T]) -> T:
    """Ask, and again while the authority does not like the nonce, which it has forgotten perhaps (RFC 8555, section
    6.5)."""
    for _ in range(MOST_NONCES - 1):
        try:
            return ask()
        except messages.Error as error:
            if error.code != "badNonce":
                raise
    return ask()


def renewal_id(leaf: x509.Certificate) -> str:
    """The identifier of a certificate in the address of its renewal information (RFC 9773, section 4.1). Raises
    ValueError when the certificate does not name the key of its issuer."""
    try:
        issuer = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    except x509.ExtensionNotFound as error:
        raise ValueError("the certificate does not name the key of its issuer") from error
    number = leaf.serial_number
    serial = number.to_bytes(number.bit_length() // 8 + 1, "big")
    return f"{_base64url(issuer or b'')}.{_base64url(serial)}"


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decoded(kind: Any, response: requests.Response) -> Any:
    try:
        return kind.from_json(response.json())
    except (JoseError, ValueError, TypeError, AttributeError) as error:
        raise AuthorityError(f"a response that is no {kind.__name__}: {error}") from error


def _failure(error: messages.Error) -> Exception:
    """The exception for a problem document of the authority."""
    code, words = error.code or "", _words(error)
    if code == "rateLimited":
        return OrderError("rate_limited", words, 3600.0)
    if code in _OF_AUTHORITY or code in _OF_ACCOUNT:
        return AuthorityError(words)
    return OrderError("rejected", words)


def _words(error: object) -> str:
    """A problem in words."""
    if isinstance(error, messages.Error):
        first = error.detail or error.description or ""
        inner = [str(sub.detail) for sub in error.subproblems or () if sub.detail]
        return f"{error.code or error.typ}: {'; '.join([first, *inner])}"
    if isinstance(error, requests.RequestException):
        return f"{type(error).__name__}: {error}"
    return str(error) or type(error).__name__


def _retry_after_of(error: Exception) -> float:
    response = getattr(error, "response", None)
    return _retry_after(response) if isinstance(response, requests.Response) else 0.0


def _retry_after(response: requests.Response) -> float:
    """Retry-After in seconds (RFC 9110, section 10.2.3); 0 = there is none that is usable."""
    text = response.headers.get("Retry-After", "")
    if text.isdecimal() and len(text) <= 9:
        return float(text)
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()) if text else 0.0
    except (ValueError, TypeError):
        return 0.0
