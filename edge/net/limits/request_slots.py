"""Limits an environment's requests in flight, and each client's share once they are many (`slot_shares.py`)."""

from collections.abc import Hashable, Iterator
from typing import Protocol

from edge.net.worker_context import WorkerContext
from edge.rules.balancing.environments import Environment
from edge.rules.limits.client_key import ClientKey, client_key
from edge.rules.limits.slot_shares import SlotShares
from edge.rules.outcomes import Cause


class InFlight(Hashable, Protocol):
    """An exchange, as far as request slots concern it."""

    environment: Environment | None
    "The environment where it is in flight."

    @property
    def client_address(self) -> str:
        """Address of the client that its slot is counted for; "" = unknown."""


def take_slot(context: WorkerContext, environment: Environment, exchange: InFlight) -> Cause | None:
    """Take a slot for one more request in flight. Returns None, or the cause for which there is none.

    Only called when at least `environment.shared_from` requests are in flight. When slots become scarce, all
    connections are scanned once, which takes 0.1 microseconds for each.
    """
    limits = context.hot.slots
    if environment.in_flight >= limits.every:
        return Cause.SITE_LIMIT
    if environment.in_flight < limits.shared_from and environment.slots is None:
        environment.shared_from = limits.shared_from
        return None
    if environment.slots is None:
        environment.slots = SlotShares(_in_flight(context, environment))
        environment.shared_from = 0  # from now on each new request is counted
    client = client_key(exchange.client_address)
    if environment.slots.of(client) >= limits.each:
        return Cause.CLIENT_LIMIT
    environment.slots.take(exchange, client)
    return None


def return_slot(context: WorkerContext, environment: Environment, slots: SlotShares, exchange: InFlight) -> None:
    """Return the slot of a request that has ended, in an environment whose slots are counted."""
    slots.give_back(exchange)
    limits = context.hot.slots
    if environment.in_flight < limits.plenty:
        environment.slots = None
        environment.shared_from = limits.shared_from


def _in_flight(context: WorkerContext, environment: Environment) -> Iterator[tuple[InFlight, ClientKey]]:
    """The requests in flight of this environment, each with its client."""
    for member in context.deadline_sweep:
        exchange: InFlight | None = getattr(member, "exchange", None)
        if exchange is not None and exchange.environment is environment:
            yield exchange, client_key(exchange.client_address)
