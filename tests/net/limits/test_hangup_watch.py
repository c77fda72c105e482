"""Who has left while nothing is read from it, as the kernel tells it."""

import socket
import struct
from collections.abc import Iterator

import pytest

from edge.net.limits.hangup_watch import AT_ONCE, Hangups
from tests.support.fake_transports import FakeLoop, turns

GET = b"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n"


class Connection:
    """Ours, and the client's end."""

    def __init__(self, listening: socket.socket) -> None:
        self.client = socket.create_connection(listening.getsockname())
        self.sock, _ = listening.accept()
        self.told: list[bool] = []

    def descriptor(self) -> int:
        return self.sock.fileno()

    def hung_up(self, *, reset: bool) -> None:
        self.told.append(reset)

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


def looked(hangups: Hangups, loop: FakeLoop) -> None:
    hangups.deadline_passed(loop.time())
    loop.pass_time(0.0)


def told(connections: list[Connection]) -> list[list[bool]]:
    return [one.told for one in connections]


def test_the_end_is_told_once_and_a_reset_behind_it(connections):
    hangups = Hangups(loop := FakeLoop())
    stays, ends, resets, *_ = connections
    for one in (stays, ends, resets):
        hangups.watch(one)
    looked(hangups, loop)
    assert not any(told(connections))
    stays.client.send(b"more")
    ends.client.send(b"the last")
    ends.client.shutdown(socket.SHUT_WR)
    resets.client.send(b"bytes")
    resets.reset()
    for _ in range(2):
        looked(hangups, loop)
    assert told([stays, ends]) == [[], [False]]
    assert set(resets.told) == {True}
    ends.reset()
    looked(hangups, loop)
    assert ends.told == [False, True]


def test_one_that_is_read_again_is_not_looked_at(connections):
    """Its descriptor may belong to another connection by then."""
    hangups = Hangups(loop := FakeLoop())
    seen, unseen, *_ = connections
    hangups.watch(seen)
    looked(hangups, loop)
    hangups.watch(unseen)
    for one in (seen, unseen):
        one.reset()
        hangups.unwatch(one)
        hangups.unwatch(one)
    looked(hangups, loop)
    assert not any(told(connections))
    assert len(hangups) == 0


def test_many_are_told_a_few_at_a_time_and_one_that_fails_takes_nobody_along(connections, caplog):
    hangups = Hangups(loop := FakeLoop())

    def fails(*, reset: bool) -> None:
        raise RuntimeError("a fault")

    connections[0].hung_up = fails
    for one in connections:
        hangups.watch(one)
        one.reset()
    hangups.deadline_passed(loop.time())
    assert sum(map(bool, told(connections))) in (AT_ONCE, AT_ONCE - 1)
    hangups.unwatch(late := next(one for one in connections[1:] if not one.told))
    loop.pass_time(0.0)
    assert [bool(one.told) for one in connections[1:]] == [one is not late for one in connections[1:]]
    assert "a fault" in caplog.text


def test_it_looks_as_often_as_it_says(connections):
    hangups = Hangups(FakeLoop(), every=0.5)
    hangups.deadline_passed(1000.0)
    assert hangups.deadline == 1000.5


@pytest.mark.parametrize("reset", [False, True])
async def test_one_that_has_to_take_its_answer_only(bench, reset):
    """Its answer is complete; that it sends no more changes nothing."""
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
