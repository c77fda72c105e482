"""Explains to operators why a hostname has no certificate of the authority yet, and when it is ordered."""

from collections.abc import Mapping
from typing import Final

from edge.rules.acme.issuance_plan import IssuanceStep, next_step
from edge.rules.acme.issuance_records import ExplainedIssuance, IssuanceGate, IssuanceRecord

REASONS: Final[Mapping[str, str]] = {
    "authority_failed": "the authority could not be reached, or failed",
    "orders_per_hour": "tls.acme.orders_per_hour is reached",
    "orders_per_domain": "tls.acme.orders_per_domain is reached",
    "unknown_host": "the source of routes does not know this hostname",
    "route_unsure": "the route of this hostname could not be looked up",
    "proof_failed": "the authority did not get the proof",
    "rejected": "the authority rejected the order",
    "rate_limited": "a limit of the authority is reached",
    "timeout": "the authority took too long",
    "unusable": "the certificate of the authority is not usable",
    "fault": "a fault of styx",
}
"In words, by code."

ORDER_RESULTS: Final = (
    "issued",
    "proof_failed",
    "rejected",
    "rate_limited",
    "timeout",
    "unusable",
    "fault",
    "authority_failed",
    "unknown_host",
    "route_unsure",
)
"How orders end: values of a metric's label."


def explain_issuance(
    record: IssuanceRecord | None, gate: IssuanceGate, now: float, directory_url: str
) -> ExplainedIssuance:
    """Explain the orders of a hostname. `now`: seconds since the epoch. `gate`: what keeps all waiting."""
    if record is None:
        return ExplainedIssuance("none", "", "", 0, None, None)
    at, step = next_step(record, now, directory_url)
    renew_at = record.renew_at if record.not_after > now else None
    reason, details, next_at = record.reason, record.details, None if step is None else at
    waits = step in (IssuanceStep.FIRST, IssuanceStep.RENEW, IssuanceStep.RESUME) and gate.until > max(now, at)
    if step is IssuanceStep.RESUME and not waits:
        state = "ordering"
    elif record.not_after > now and record.directory_url == directory_url:
        state, next_at = "issued", record.renew_at if step is IssuanceStep.ASK else at
    elif waits:
        state = "waiting"
    elif reason:
        state = "unknown_host" if reason == "unknown_host" else "failed" if record.failures else "waiting"
    else:
        state = "none" if step is None else "wanted"
    if waits and gate.reason:
        reason, details, next_at = gate.reason, gate.details, gate.until
    return ExplainedIssuance(state, reason, details, record.failures, next_at, renew_at)
