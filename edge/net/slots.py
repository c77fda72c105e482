"""Requests in flight of one environment, when so many are that they are shared out (`rules/slot_shares.py`)."""

from collections.abc import Hashable, Iterator
from typing import Protocol

from edge.net.services import Services
from edge.rules.client_address import ClientKey, client_key
from edge.rules.environments import Environment
from edge.rules.outcomes import Cause
from edge.rules.slot_shares import SlotShares


class InFlight(Hashable, Protocol):
    """An exchange."""

    environment: Environment | None
    "Where it is in flight."

    @property
    def asker(self) -> str:
        """On whose account; "" = nobody knows."""


def take_slot(services: Services, environment: Environment, exchange: InFlight) -> Cause | None:
    """Whether one more request may be in flight: None, or why not.

    Called from `environment.shared_from` on only. When slots become scarce, all connections are looked at once, 0.1
    microseconds each.
    """
    limits = services.usual.slots
    if environment.in_flight >= limits.every:
        return Cause.SITE_LIMIT
    if environment.in_flight < limits.shared_from and environment.slots is None:
        environment.shared_from = limits.shared_from
        return None
    if environment.slots is None:
        environment.slots = SlotShares(_held(services, environment))
        environment.shared_from = 0  # from now on each that begins is counted
    client = client_key(exchange.asker)
    if environment.slots.of(client) >= limits.each:
        return Cause.CLIENT_LIMIT
    environment.slots.take(exchange, client)
    return None


def give_slot_back(services: Services, environment: Environment, slots: SlotShares, exchange: InFlight) -> None:
    """A request has ended that was in flight while slots were counted."""
    slots.give_back(exchange)
    limits = services.usual.slots
    if environment.in_flight < limits.plenty:
        environment.slots = None
        environment.shared_from = limits.shared_from


def _held(services: Services, environment: Environment) -> Iterator[tuple[InFlight, ClientKey]]:
    for member in services.sweep:
        exchange: InFlight | None = getattr(member, "exchange", None)
        if exchange is not None and exchange.environment is environment:
            yield exchange, client_key(exchange.asker)
