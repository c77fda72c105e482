"""What operators are told of the orders of a certificate."""

import pytest
from msgspec.structs import replace

from edge.rules.acme.explain_issuance import ORDER_RESULTS, REASONS, explain_issuance
from edge.rules.acme.issuance_records import ExplainedIssuance, IssuanceGate, IssuanceRecord

OURS, NOW = "https://ca.test/dir", 1_000_000.0
WANTED = IssuanceRecord("a.test", wanted_at=NOW)
ISSUED = IssuanceRecord(
    "a.test", directory_url=OURS, not_after=NOW + 100, renew_at=NOW + 50, ask_renewal_at=NOW + 5
)
FAILED = replace(WANTED, failures=2, reason="proof_failed", details="503", retry_at=NOW + 60)
DOWN = IssuanceGate(NOW + 9, "authority_failed", "refused")


@pytest.mark.parametrize(
    ("record", "gate", "explained"),
    [
        (None, DOWN, ExplainedIssuance("none", "", "", 0, None, None)),
        (WANTED, IssuanceGate(), ExplainedIssuance("wanted", "", "", 0, NOW, None)),
        (WANTED, DOWN, ExplainedIssuance("waiting", "authority_failed", "refused", 0, NOW + 9, None)),
        (WANTED, replace(DOWN, until=NOW), ExplainedIssuance("wanted", "", "", 0, NOW, None)),
        (FAILED, IssuanceGate(), ExplainedIssuance("failed", "proof_failed", "503", 2, NOW + 60, None)),
        (FAILED, DOWN, ExplainedIssuance("failed", "proof_failed", "503", 2, NOW + 60, None)),
        (
            replace(WANTED, reason="orders_per_domain", retry_at=NOW + 5),
            IssuanceGate(),
            ExplainedIssuance("waiting", "orders_per_domain", "", 0, NOW + 5, None),
        ),
        (
            replace(WANTED, wanted_at=0.0, reason="unknown_host"),
            IssuanceGate(),
            ExplainedIssuance("unknown_host", "unknown_host", "", 0, None, None),
        ),
        (ISSUED, IssuanceGate(), ExplainedIssuance("issued", "", "", 0, NOW + 50, NOW + 50)),
        (
            replace(WANTED, order_url="https://ca.test/1", directory_url=OURS),
            IssuanceGate(),
            ExplainedIssuance("ordering", "", "", 0, 0.0, None),
        ),
        (replace(WANTED, wanted_at=0.0), IssuanceGate(), ExplainedIssuance("none", "", "", 0, None, None)),
    ],
)
def test_explained(record, gate, explained):
    assert explain_issuance(record, gate, NOW, OURS) == explained


def test_every_reason_has_words():
    assert set(ORDER_RESULTS) - {"issued"} <= set(REASONS)
