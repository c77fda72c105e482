"""The client's certificate, as header fields for backends and as a value in the access log.

OpenSSL has verified it. What is in it was still chosen by whoever asked for it, so nothing of it may end a line, or
pass for a second member of a list.
"""

from base64 import b64encode
from collections.abc import Callable
from functools import lru_cache
from hashlib import sha256
from typing import Final, NamedTuple, TypeVar
from urllib.parse import quote

from cryptography import x509

T = TypeVar("T")

NONE_SHOWN: Final = b"X-Client-Cert-Verify: NONE\r\n"
"The field for a client that has shown no certificate, on a listener that asks for one."
LONGEST_VALUE: Final = 2048
"Bytes of a subject, issuer or list of names. A longer one is left out, for half of a name is another name."
LONGEST_CERTIFICATE: Final = 5000
"Bytes of a certificate in DER that is sent whole; as text it must fit into a line of nginx, which has 8 KiB."
LONGEST_LOGGED: Final = 200
_UNENCODED: Final = "!#$&'()*+/:;=?@[]"
"In names, besides letters, digits and `_.-~`; all else is percent-encoded (RFC 3986, section 2.1)."
_KINDS: Final[tuple[tuple[type[x509.GeneralName], str], ...]] = (
    (x509.DNSName, "dns"),
    (x509.UniformResourceIdentifier, "uri"),
    (x509.RFC822Name, "email"),
    (x509.IPAddress, "ip"),
)


class ClientCertificate(NamedTuple):
    """A verified certificate."""

    subject: str
    "For the log (RFC 4514), cut off if it is long; printable ASCII."
    not_after: float
    "Seconds since the epoch from which on it must not be used."
    lines: bytes
    "The fields for backends, encoded."


def client_certificate(der: bytes) -> ClientCertificate:
    """Describe a certificate that OpenSSL has verified. What of it cannot be read is left out; one without a
    readable end counts as ended."""
    subject = _or("", _subject, der)
    fields = (
        (b"X-Client-Cert-Verify", "SUCCESS"),
        (b"X-Client-Cert-Subject", subject),
        (b"X-Client-Cert-Issuer", _or("", _issuer, der)),
        (b"X-Client-Cert-Serial", _or("", _serial, der)),
        (b"X-Client-Cert-Fingerprint", sha256(der).hexdigest()),
        (b"X-Client-Cert-Not-After", _or("", _ends, der)),
        (b"X-Client-Cert-San", _or("", _names, der)),
    )
    lines = [
        b"%b: %b\r\n" % (name, value.encode("ascii")) for name, value in fields if 0 < len(value) <= LONGEST_VALUE
    ]
    if len(der) <= LONGEST_CERTIFICATE:
        lines.append(b"Client-Cert: :%b:\r\n" % b64encode(der))  # RFC 9440, section 2.2
    return ClientCertificate(subject[:LONGEST_LOGGED], _or(0.0, _not_after, der), b"".join(lines))


def _or(default: T, read: Callable[[bytes], T], der: bytes) -> T:
    """What is read; `default` if it cannot be: parts are parsed when they are asked for, and there is no common
    class of errors."""
    try:
        return read(der)
    except Exception:
        return default


@lru_cache(1)
def _read(der: bytes) -> x509.Certificate:
    return x509.load_der_x509_certificate(der)


def _subject(der: bytes) -> str:
    return _printable(_read(der).subject.rfc4514_string())


def _issuer(der: bytes) -> str:
    return _printable(_read(der).issuer.rfc4514_string())


def _serial(der: bytes) -> str:
    return f"{_read(der).serial_number:X}"


def _not_after(der: bytes) -> float:
    return _read(der).not_valid_after_utc.timestamp()


def _ends(der: bytes) -> str:
    return _read(der).not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%SZ")


def _names(der: bytes) -> str:
    """Its names in order, each with its kind: `dns=a.example.org,uri=spiffe://example.org/a`."""
    found = []
    for name in _read(der).extensions.get_extension_for_class(x509.SubjectAlternativeName).value:
        kind = next((word for of, word in _KINDS if isinstance(name, of)), None)
        if kind is not None:
            found.append(f"{kind}={quote(str(name.value), safe=_UNENCODED)}")
    return ",".join(found)


def _printable(text: str) -> str:
    r"""The text with all that is not printable ASCII as `\C3\A9`, which RFC 4514, section 2.4, allows."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        char if char.isascii() and char.isprintable() else "".join(f"\\{byte:02X}" for byte in char.encode())
        for char in text
    )
