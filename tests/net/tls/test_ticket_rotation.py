"""Ticket keys change with the clock, in all workers alike."""

from edge.net.tls.ticket_rotation import TicketRotation
from edge.net.tls.tls_contexts import BaseContexts, TlsProfile
from edge.rules.tls.ticket_chain import TicketChain
from tests.net.tls.test_ticket_key_setter import Visitor
from tests.support.tls_parts import TLS13

PERIOD = 3600.0


class Workers:
    def __init__(self, count: int) -> None:
        self.wall = 10 * PERIOD + 5.0
        chain = TicketChain(bytes(range(32)), 10)
        self.bases = [BaseContexts(TlsProfile.INTERMEDIATE, None) for _ in range(count)]
        self.rotations = [TicketRotation(bases, chain, PERIOD, lambda: self.wall) for bases in self.bases]
        for rotation in self.rotations:
            rotation.rotate()

    def pass_time(self, seconds: float) -> None:
        self.wall += seconds
        for rotation in self.rotations:
            rotation.deadline_passed(77.0)


def test_sessions_are_resumed_by_all_workers_over_two_periods() -> None:
    workers, client, late = Workers(2), Visitor(TLS13), Visitor(TLS13)
    first, second = workers.bases
    assert not client.resumes(first)
    assert not late.resumes(first)
    assert client.resumes(second)
    workers.pass_time(PERIOD)
    assert client.resumes(second)
    workers.pass_time(PERIOD)
    assert not late.resumes(second)


def test_between_two_periods_nothing_changes() -> None:
    workers = Workers(1)
    context = workers.bases[0].choose(b"")
    workers.pass_time(PERIOD - 6.0)
    assert workers.bases[0].choose(b"") is context
    assert workers.rotations[0].deadline == 78.0
    workers.pass_time(2.0)
    assert workers.bases[0].choose(b"") is not context
