"""Hands the chain of ticket keys over to the next master, in a memfd: the environment can be read by others."""

import os
from collections.abc import MutableMapping
from typing import Final

from edge.rules.tls.ticket_chain import TicketChain, decode_ticket_chain

TICKETS: Final = "STYX_TICKETS"
"Environment variable of a new master: the descriptor of the file, and the period of the chain in seconds."
_MOST: Final = 4096


def hand_over(chain: TicketChain, period: float) -> tuple[int, str]:
    """Write the chain into a file without a name. Returns its descriptor, which a new process inherits, and the
    value of `TICKETS`. Raises OSError."""
    descriptor = os.memfd_create("tickets", 0)
    os.write(descriptor, chain.encode())
    os.set_inheritable(descriptor, True)
    return descriptor, f"{descriptor}:{period}"


def take_tickets(environ: MutableMapping[str, str]) -> tuple[TicketChain, float] | None:
    """Take the chain over from the previous master, with its period; None = there is none that can be read."""
    number, colon, period = environ.pop(TICKETS, "").partition(":")
    if not colon:
        return None
    try:
        descriptor = int(number)
        data = os.pread(descriptor, _MOST, 0)
        os.close(descriptor)
        return decode_ticket_chain(data), float(period)
    except (OSError, ValueError):
        return None
