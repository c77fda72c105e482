import os

from edge.rules.tls.ticket_chain import TicketChain
from edge.run.processes.ticket_handover import TICKETS, hand_over, take_tickets

CHAIN = TicketChain(bytes(range(32)), 7)


def test_the_next_master_has_the_same_keys() -> None:
    descriptor, told = hand_over(CHAIN, 3600.0)
    assert os.get_inheritable(descriptor)
    assert CHAIN.secret.hex() not in told
    environ = {TICKETS: told, "HOME": "/"}
    assert take_tickets(environ) == (CHAIN, 3600.0)
    assert environ == {"HOME": "/"}


def test_what_cannot_be_read_is_not_used() -> None:
    other = os.memfd_create("other", 0)
    os.write(other, b"something else")
    for told in ("", "7", "x:1.0", "9999:1.0", f"{other}:1.0"):
        assert take_tickets({TICKETS: told} if told else {}) is None
