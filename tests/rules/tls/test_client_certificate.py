"""The certificate of a client as fields for backends: nothing in it ends a line or passes for something else."""

from base64 import b64decode
from datetime import timedelta
from hashlib import sha256
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from edge.rules.tls.client_certificate import (
    LONGEST_CERTIFICATE,
    LONGEST_LOGGED,
    LONGEST_VALUE,
    ClientCertificate,
    client_certificate,
)
from edge.rules.tls.client_certificate_fields import CERTIFICATE_FIELDS
from tests.support.sample_certificates import NOW, private_key


def der_of(subject: x509.Name, *names: x509.GeneralName) -> bytes:
    """A certificate that is its own issuer."""
    key = private_key()
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    builder = builder.serial_number(0xABCD1234).not_valid_before(NOW).not_valid_after(NOW + timedelta(30))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def named(*parts: tuple[x509.ObjectIdentifier, str]) -> x509.Name:
    return x509.Name([x509.NameAttribute(kind, value) for kind, value in parts])


def fields(certificate: ClientCertificate) -> dict[bytes, bytes]:
    lines = certificate.lines.split(b"\r\n")
    assert lines.pop() == b""
    found = dict(line.split(b": ", 1) for line in lines)
    assert set(found) <= set(CERTIFICATE_FIELDS)
    assert len(found) == len(lines)
    return found


def test_what_backends_are_told() -> None:
    subject = named(
        (NameOID.COUNTRY_NAME, "DE"), (NameOID.ORGANIZATION_NAME, "Acme, Inc."), (NameOID.COMMON_NAME, "ann")
    )
    der = der_of(
        subject,
        x509.DNSName("ann.example.org"),
        x509.UniformResourceIdentifier("spiffe://example.org/ann,dns=root"),
        x509.RFC822Name("ann@example.org"),
        x509.IPAddress(ip_address("2001:db8::1")),
    )
    certificate = client_certificate(der)
    found = fields(certificate)
    assert b64decode(found.pop(b"Client-Cert").strip(b":")) == der
    name = rb"CN=ann,O=Acme\, Inc.,C=DE"
    assert found == {
        b"X-Client-Cert-Verify": b"SUCCESS",
        b"X-Client-Cert-Subject": name,
        b"X-Client-Cert-Issuer": name,
        b"X-Client-Cert-Serial": b"ABCD1234",
        b"X-Client-Cert-Fingerprint": sha256(der).hexdigest().encode(),
        b"X-Client-Cert-Not-After": b"2030-01-31T00:00:00Z",
        b"X-Client-Cert-San": b"dns=ann.example.org,uri=spiffe://example.org/ann%2Cdns=root,"
        b"email=ann@example.org,ip=2001:db8::1",
    }
    assert certificate.subject == name.decode()
    assert certificate.not_after == (NOW + timedelta(30)).timestamp()


@given(st.text(min_size=1, max_size=64), st.text(st.characters(codec="ascii"), max_size=40))
def test_no_name_leaves_its_line_or_its_place(common_name: str, uri: str) -> None:
    try:
        der = der_of(named((NameOID.COMMON_NAME, common_name)), x509.UniformResourceIdentifier(uri))
    except ValueError:
        return  # no such certificate
    certificate = client_certificate(der)
    found = fields(certificate)
    assert all(0x20 <= byte < 0x7F for value in found.values() for byte in value)
    assert found.get(b"X-Client-Cert-San", b"uri=").count(b",") == 0
    assert certificate.subject.isprintable()


def test_letters_beyond_ascii() -> None:
    certificate = client_certificate(der_of(named((NameOID.COMMON_NAME, "Zoë\r\nX-Admin: 1"))))
    assert certificate.subject == r"CN=Zo\C3\AB\0D\0AX-Admin: 1"
    assert fields(certificate)[b"X-Client-Cert-Subject"] == certificate.subject.encode()


def test_what_is_too_long_is_left_out() -> None:
    long = named(*((NameOID.ORGANIZATIONAL_UNIT_NAME, "x" * 60) for _ in range(40)))
    names = [x509.DNSName(f"{number}.example.org") for number in range(400)]
    der = der_of(long, *names)
    assert len(der) > LONGEST_CERTIFICATE
    certificate = client_certificate(der)
    found = fields(certificate)
    assert set(found) == {b"X-Client-Cert-" + name for name in (b"Verify", b"Serial", b"Fingerprint", b"Not-After")}
    assert len(certificate.subject) == LONGEST_LOGGED
    assert len(certificate.lines) < LONGEST_VALUE


def test_what_cannot_be_read() -> None:
    certificate = client_certificate(b"no certificate")
    assert (certificate.subject, certificate.not_after) == ("", 0.0)
    assert set(fields(certificate)) == {b"X-Client-Cert-Verify", b"X-Client-Cert-Fingerprint", b"Client-Cert"}


def test_the_longest_lines_fit_into_a_head_of_nginx() -> None:
    """Its large_client_header_buffers have 8 KiB for a line and 32 for all."""
    assert LONGEST_VALUE * 3 + LONGEST_CERTIFICATE * 4 / 3 < 16 * 1024
