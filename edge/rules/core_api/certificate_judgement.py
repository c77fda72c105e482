"""Checks a core API's responses to lookups of certificates, in the same way as the client does. Pure."""

import re
from typing import Final

import msgspec

from edge.rules.certificates.certificate_checks import UnusableCertificate, certificate_of
from edge.rules.certificates.certificate_records import CertificateResponse
from edge.rules.certificates.certificates import SharedChains
from edge.rules.core_api.contract_findings import ContractFinding, CoreApiReply, fault, note, ok, warning

CHECK: Final = "certificate"
SOON: Final = 14 * 86400.0
"Seconds before its end from which on a certificate is told to end soon."
_SECONDS: Final = re.compile(r"[0-9]{1,9}")


def judged_certificate(hostname: str, reply: CoreApiReply, wall: float) -> list[ContractFinding]:
    """Judge the response to a lookup for this hostname; `wall` is now, in seconds since the epoch."""
    if reply.error:
        return [fault(CHECK, f"the certificate of {hostname}: {reply.error}", "Respond 200, 404 or 503.")]
    if reply.status == 404:
        return [note(CHECK, f"{hostname} has no certificate (404): its TLS handshakes are refused")]
    if reply.status == 503 and "retry-after" in reply.headers:
        return _of_issuing(hostname, reply.headers["retry-after"])
    if reply.status != 200:
        cure = "Respond 200 with a certificate, 404 if there is none, 503 with Retry-After while it is issued."
        return [fault(CHECK, f"the certificate of {hostname}: status {reply.status}", cure)]
    try:
        response = msgspec.json.decode(reply.body, type=CertificateResponse)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        cure = "`styx schema core-api` has the schema of a certificate."
        return [fault(CHECK, f"the body for {hostname} is no certificate: {error}", cure)]
    return _of_certificate(hostname, response, wall)


def _of_issuing(hostname: str, retry_after: str) -> list[ContractFinding]:
    if not _SECONDS.fullmatch(retry_after):
        words = f"Retry-After of the certificate of {hostname} is {retry_after[:40]!r}"
        return [warning(CHECK, words, "Send seconds; styx asks again after 1 s otherwise.")]
    return [
        note(CHECK, f"the certificate of {hostname} is being issued: handshakes wait, and ask each {retry_after} s")
    ]


def _of_certificate(hostname: str, response: CertificateResponse, wall: float) -> list[ContractFinding]:
    try:
        certificate, remarks = certificate_of(response, hostname, wall, SharedChains())
    except UnusableCertificate as error:
        return [fault(error.fault.value, f"the certificate of {hostname}: {error}", "styx does not serve it.")]
    found = [
        warning(
            remark.fault.value, f"the certificate of {hostname}: {remark.words}", "styx does not use this part."
        )
        for remark in remarks
    ]
    days = (certificate.not_after - wall) / 86400
    kinds = " and ".join(pair.kind.value for pair in certificate.pairs)
    found.append(ok(CHECK, f"{hostname}: {kinds} for {', '.join(certificate.names[:3])}, {days:.0f} days left"))
    if certificate.not_after - wall < SOON:
        found.append(warning(CHECK, f"it ends in {days:.0f} days", "Renew certificates a month before their end."))
    return found
