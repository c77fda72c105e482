"""The label values of the metrics of TLS: all reasons that the code counts."""

import re
from datetime import UTC, datetime
from pathlib import Path

from edge.rules.tls.handshake_failures import CERTIFICATE_LOOKUPS, HANDSHAKE_FAILURES, NEVER

EDGE = Path(__file__).parent.parent.parent.parent / "edge"


def found(pattern: str, *files: str) -> set[str]:
    return {name for file in files for name in re.findall(pattern, (EDGE / file).read_text())}


def test_every_reason_is_listed() -> None:
    accept, wait = "net/tls/tls_accept.py", "net/tls/certificate_wait.py"
    resolver = ("net/certificates/certificate_resolver.py", "net/certificates/certificate_files_reader.py")
    reasons = found(r'_fail\("(\w+)"\)', accept) | found(r'Alert\.\w+, "(\w+)"\)', accept, wait, *resolver)
    reasons |= found(r'"(\w+)" if rejected', accept) | found(r'else "(\w+)"\)', accept)
    reasons |= found(r'\.failures\["(\w+)"\]', accept) | found(r'_alert\(error\.alert, "(\w+)"\)', accept)
    reasons |= found(r'otherwise: str = "(\w+)"', *resolver) | found(r'_now_known\(hostname, "(\w+)"\)', *resolver)
    reasons |= found(r'(?:return|else) "(\w+)"', "rules/tls/revocation_lists.py")
    assert reasons == set(HANDSHAKE_FAILURES)


def test_every_result_of_a_look_up_is_listed() -> None:
    resolver = ("net/certificates/certificate_resolver.py", "net/certificates/certificate_files_reader.py")
    results = found(r'results\["(\w+)"\]', *resolver) | found(r'Alert\.\w+, "(\w+)"\)', *resolver)
    assert results <= set(CERTIFICATE_LOOKUPS)


def test_never() -> None:
    assert datetime.fromtimestamp(NEVER, UTC) == datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
