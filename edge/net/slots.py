"""Requests in flight of one environment, when so many are that they are shared out (`rules/slot_shares.py`)."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from edge.rules.client_address import ClientKey, client_key
from edge.rules.environments import Environment
from edge.rules.outcomes import Cause
from edge.rules.slot_shares import SlotShares

if TYPE_CHECKING:
    from edge.net.exchange import Exchange
    from edge.net.services import Services


def take_slot(services: "Services", environment: Environment, exchange: "Exchange") -> Cause | None:
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


def give_slot_back(services: "Services", environment: Environment, slots: SlotShares, exchange: "Exchange") -> None:
    """A request has ended that was in flight while slots were counted."""
    slots.give_back(exchange)
    limits = services.usual.slots
    if environment.in_flight < limits.plenty:
        environment.slots = None
        environment.shared_from = limits.shared_from


def _held(services: "Services", environment: Environment) -> Iterator[tuple["Exchange", ClientKey]]:
    for member in services.sweep:
        exchange: Exchange | None = getattr(member, "exchange", None)
        if exchange is not None and exchange.environment is environment:
            yield exchange, client_key(exchange.asker)
