"""The state of certificates that are ordered from an ACME authority; kept as JSON files beside them.

All times are seconds since the epoch; 0 = never, or not yet.
"""

import msgspec


class IssuanceRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """The orders of one hostname, and the certificate that they led to."""

    hostname: str
    wanted_at: float = 0.0
    "When a handshake last asked for it in vain."
    directory_url: str = ""
    "Of the authority of the certificate, or of the order under way."
    order_url: str = ""
    'Of the order under way, which is taken up again after a restart; "" = none.'
    first_orders: tuple[float, ...] = ()
    "When orders without a certificate before them began, within the last seven days."
    renewals: tuple[float, ...] = ()
    "When renewals began, within the last hour."
    not_before: float = 0.0
    not_after: float = 0.0
    "Of the certificate that was obtained last."
    renew_at: float = 0.0
    ask_renewal_at: float = 0.0
    "When the authority is next asked when to renew (ARI, RFC 9773)."
    failures: int = 0
    "Failed orders in a row."
    failed_at: float = 0.0
    retry_at: float = 0.0
    "No order before."
    reason: str = ""
    'A stable code: why the last order failed, or why none begins (`issuance_plan.py`); "" = nothing is wrong.'
    details: str = ""
    "The same in words, as the authority has put it."


class IssuanceGate(msgspec.Struct, frozen=True, omit_defaults=True):
    """The reason why all orders wait."""

    until: float = 0.0
    reason: str = ""
    'A stable code: `authority_failed` or `orders_per_hour`; "" = nothing.'
    details: str = ""


class SavedAccount(msgspec.Struct, frozen=True):
    """An account at an authority, as it is saved: whoever has its key has the account."""

    directory_url: str
    key: str
    "PEM."


class ExplainedIssuance(msgspec.Struct, frozen=True):
    """The state of the orders of a certificate, for operators."""

    state: str
    "issued, ordering, wanted, failed, unknown_host, waiting or none."
    reason: str
    'A stable code; "" = nothing is wrong.'
    details: str
    failures: int
    "Failed orders in a row."
    next_at: float | None
    "When it is ordered, or tried again, at the earliest, seconds since the epoch; null = at the next handshake."
    renew_at: float | None
    "When the certificate is renewed, seconds since the epoch; null = there is none."
