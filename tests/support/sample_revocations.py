"""Revocation lists for tests."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from edge.net.tls.tls_contexts import PemPair

DAY = timedelta(1)


def revocation_list(
    by: trustme.CA,
    revoked: Iterable[PemPair | trustme.CA] = (),
    *,
    begins: timedelta = -DAY,
    ends: timedelta = DAY,
    name: x509.Name | None = None,
    extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
) -> bytes:
    """The list of this authority, PEM. `begins` and `ends`: from now on. `name`: instead of the authority's.
    `extensions`: each with whether it is critical."""
    now = datetime.now(UTC)
    authority = x509.load_pem_x509_certificate(by.cert_pem.bytes())
    builder = x509.CertificateRevocationListBuilder().issuer_name(name or authority.subject)
    builder = builder.last_update(now + begins).next_update(now + ends)
    for each in revoked:
        pem = each.cert_pem.bytes() if isinstance(each, trustme.CA) else each.chain
        serial = x509.load_pem_x509_certificate(pem).serial_number
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now + begins)
        builder = builder.add_revoked_certificate(entry.build())
    for extension, is_critical in extensions:
        builder = builder.add_extension(extension, critical=is_critical)
    key = load_pem_private_key(by.private_key_pem.bytes(), None)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)  # type: ignore[arg-type]
