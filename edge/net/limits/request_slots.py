"""Requests in flight of one environment, shared out among its clients once they are many (`slot_shares.py`)."""

from collections.abc import Hashable, Iterator
from typing import Protocol

from edge.net.worker_context import WorkerContext
from edge.rules.balancing.environments import Environment
from edge.rules.limits.client_key import ClientKey, client_key
from edge.rules.limits.slot_shares import SlotShares
from edge.rules.outcomes import Cause


class InFlight(Hashable, Protocol):
    """An exchange."""

    environment: Environment | None
    "Where it is in flight."

    @property
    def asker(self) -> str:
        """On whose account; "" = nobody knows."""


def take_slot(context: WorkerContext, environment: Environment, exchange: InFlight) -> Cause | None:
    """Whether one more request may be in flight: None, or why not.

    Called from `environment.shared_from` on only. When slots become scarce, all connections are looked at once, 0.1
    microseconds each.
    """
    limits = context.hot.slots
    if environment.in_flight >= limits.every:
        return Cause.SITE_LIMIT
    if environment.in_flight < limits.shared_from and environment.slots is None:
        environment.shared_from = limits.shared_from
        return None
    if environment.slots is None:
        environment.slots = SlotShares(_held(context, environment))
        environment.shared_from = 0  # from now on each that begins is counted
    client = client_key(exchange.asker)
    if environment.slots.of(client) >= limits.each:
        return Cause.CLIENT_LIMIT
    environment.slots.take(exchange, client)
    return None


def give_slot_back(context: WorkerContext, environment: Environment, slots: SlotShares, exchange: InFlight) -> None:
    """A request has ended that was in flight while slots were counted."""
    slots.give_back(exchange)
    limits = context.hot.slots
    if environment.in_flight < limits.plenty:
        environment.slots = None
        environment.shared_from = limits.shared_from


def _held(context: WorkerContext, environment: Environment) -> Iterator[tuple[InFlight, ClientKey]]:
    for member in context.deadline_sweep:
        exchange: InFlight | None = getattr(member, "exchange", None)
        if exchange is not None and exchange.environment is environment:
            yield exchange, client_key(exchange.asker)
