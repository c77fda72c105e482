"""Hangups: clients that close their connection while reading is paused, as the kernel reports it."""

import socket
import struct
from collections.abc import Iterator

import pytest

from edge.net.limits.hangup_watch import AT_ONCE, HangupWatch
from tests.support.fake_transports import FakeLoop, turns

GET = b"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n"


class Connection:
    """A connection: the end of the edge, and the end of the client."""

    def __init__(self, listening: socket.socket) -> None:
        self.client = socket.create_connection(listening.getsockname())
        self.sock, _ = listening.accept()
        self.reports: list[bool] = []

    def descriptor(self) -> int:
        return self.sock.fileno()

    def hung_up(self, *, reset: bool) -> None:
        self.reports.append(reset)

    def reset(self) -> None:
        self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.client.close()


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


@pytest.fixture
def connections(listening: socket.socket) -> Iterator[list[Connection]]:
    made = [Connection(listening) for _ in range(2 * AT_ONCE)]
    yield made
    for one in made:
        one.client.close()
        one.sock.close()


def poll(hangups: HangupWatch, loop: FakeLoop) -> None:
    hangups.deadline_passed(loop.time())
    loop.pass_time(0.0)


def reports(connections: list[Connection]) -> list[list[bool]]:
    return [one.reports for one in connections]


def test_the_end_is_reported_once_and_a_later_reset_too(connections):
    hangups = HangupWatch(loop := FakeLoop())
    stays, ends, resets, *_ = connections
    for one in (stays, ends, resets):
        hangups.watch(one)
    poll(hangups, loop)
    assert not any(reports(connections))
    stays.client.send(b"more")
    ends.client.send(b"the last")
    ends.client.shutdown(socket.SHUT_WR)
    resets.client.send(b"bytes")
    resets.reset()
    for _ in range(2):
        poll(hangups, loop)
    assert reports([stays, ends]) == [[], [False]]
    assert set(resets.reports) == {True}
    ends.reset()
    poll(hangups, loop)
    assert ends.reports == [False, True]


def test_a_connection_that_is_read_from_again_is_not_polled(connections):
    """Its descriptor may belong to another connection by then."""
    hangups = HangupWatch(loop := FakeLoop())
    seen, unseen, *_ = connections
    hangups.watch(seen)
    poll(hangups, loop)
    hangups.watch(unseen)
    for one in (seen, unseen):
        one.reset()
        hangups.unwatch(one)
        hangups.unwatch(one)
    poll(hangups, loop)
    assert not any(reports(connections))
    assert len(hangups) == 0


def test_many_are_reported_a_few_at_a_time_and_a_failure_does_not_stop_the_others(connections, caplog):
    hangups = HangupWatch(loop := FakeLoop())

    def fails(*, reset: bool) -> None:
        raise RuntimeError("a fault")

    connections[0].hung_up = fails
    for one in connections:
        hangups.watch(one)
        one.reset()
    hangups.deadline_passed(loop.time())
    assert sum(map(bool, reports(connections))) in (AT_ONCE, AT_ONCE - 1)
    hangups.unwatch(late := next(one for one in connections[1:] if not one.reports))
    loop.pass_time(0.0)
    assert [bool(one.reports) for one in connections[1:]] == [one is not late for one in connections[1:]]
    assert "a fault" in caplog.text


def test_interval_of_polls(connections):
    hangups = HangupWatch(FakeLoop(), every=0.5)
    hangups.deadline_passed(1000.0)
    assert hangups.deadline == 1000.5


@pytest.mark.parametrize("reset", [False, True])
async def test_after_a_complete_response_only_a_reset_ends_the_connection(bench, reset):
    """The client still has to take the response; a half-close changes nothing."""
    client = bench.client()
    client.full = True
    client.protocol.data_received(GET)
    await turns()
    assert [outcome.cause for outcome in bench.outcomes] == ["ok"]
    assert len(bench.worker.context.hangups) == 1
    client.protocol.hung_up(reset=reset)
    assert client.closed == ("abort" if reset else "")
    await turns()
    assert len(bench.worker.context.hangups) == (0 if reset else 1)
