"""Judgements of responses about certificates."""

import msgspec

from edge.rules.core_api.certificate_judgement import judged_certificate
from edge.rules.core_api.contract_findings import CoreApiReply
from tests.support.sample_certificates import DAY, WALL, Authority
from tests.support.scripted_certificates import response_of

HOST = "www.example.org"
AUTHORITY = Authority("root")
LEAF = AUTHORITY.leaf(HOST)
BODY = msgspec.json.encode(response_of(LEAF, names=(HOST,)))


def told(reply: CoreApiReply, hostname: str = HOST, wall: float = WALL) -> list[str]:
    return [f"{found.severity.value} {found.check}" for found in judged_certificate(hostname, reply, wall)]


def test_a_good_certificate() -> None:
    assert told(CoreApiReply(200, body=BODY))[0] == "ok certificate"


def test_one_that_ends_soon_or_has_ended() -> None:
    end = WALL + 80 * DAY
    assert told(CoreApiReply(200, body=BODY), wall=end - DAY) == ["ok certificate", "warning certificate"]
    assert told(CoreApiReply(200, body=BODY), wall=end + 1) == ["fault expired"]


def test_one_for_another_name() -> None:
    assert told(CoreApiReply(200, body=BODY), "other.example.org") == ["fault name_not_covered"]


def test_responses_without_a_certificate() -> None:
    assert told(CoreApiReply(404)) == ["note certificate"]
    assert told(CoreApiReply(503, {"retry-after": "5"})) == ["note certificate"]
    assert told(CoreApiReply(503, {"retry-after": "soon"})) == ["warning certificate"]
    assert told(CoreApiReply(503)) == ["fault certificate"]
    assert told(CoreApiReply(200, body=b"{}")) == ["fault certificate"]
    assert told(CoreApiReply(error="no response")) == ["fault certificate"]
