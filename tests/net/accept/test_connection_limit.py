"""Who may come in, whom a connection counts for, and what the one too many gets."""

from collections import Counter
from email.utils import parsedate_to_datetime

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.net.accept import connection_limit as entrance_module
from edge.net.accept.connection_limit import TURNED_AWAY, ConnectionLimiter, Permit
from edge.net.accept.lingering_close import LingeringClose
from edge.rules.exchange_records import Outcome
from edge.rules.http.hop_by_hop import ClientInfo
from edge.rules.http.local_reply import LocalReplies
from edge.rules.limits.client_key import client_key
from edge.rules.outcomes import Blame, Cause, Phase
from edge.rules.settings import LimitSettings
from edge.run.worker import request_ids
from tests.support.fake_transports import turns

EMPTY = "<Entrance inside=0 clients=0 lingering=0>"


def peer(address: str, *, trusted: bool = False) -> ClientInfo:
    return ClientInfo(address, port=80, trusted=trusted, via=b"styx")


def new_entrance(told: list[Outcome] | None = None, *, edge: bytes = b"edge-1", **limits: int) -> ConnectionLimiter:
    return ConnectionLimiter(
        LimitSettings(**limits),
        pages=LocalReplies(),
        edge_line=b"\r\nX-Styx-Edge: %b\r\n" % edge,
        next_id=request_ids(),
        observe=(told if told is not None else []).append,
    )


def admitted(connection_limiter: ConnectionLimiter, *addresses: str) -> list[bool]:
    return [connection_limiter.admit(peer(address)) is not None for address in addresses]


def test_at_most_so_many_in_total() -> None:
    connection_limiter = new_entrance(connections=3)
    badges = [connection_limiter.admit(peer(f"192.0.2.{n}")) for n in range(3)]
    assert admitted(connection_limiter, "192.0.2.9", "2001:db8::9") == [False, False]
    connection_limiter.leave(badges[1])
    assert admitted(connection_limiter, "192.0.2.9", "192.0.2.8") == [True, False]


def test_at_most_so_many_of_one_client() -> None:
    connection_limiter = new_entrance(connections_per_client=2)
    assert admitted(connection_limiter, "192.0.2.7", "192.0.2.7", "192.0.2.7", "192.0.2.8") == [
        True,
        True,
        False,
        True,
    ]
    connection_limiter.leave(client_key("192.0.2.7"))
    assert admitted(connection_limiter, "192.0.2.7", "192.0.2.7") == [True, False]


def test_a_client_of_ipv6_is_all_of_its_64() -> None:
    connection_limiter = new_entrance(connections_per_client=2)
    home = ["2001:db8:0:7::1", "2001:db8:0:7:ffff::", "2001:db8:0:7::2"]
    assert admitted(connection_limiter, *home) == [True, True, False]
    assert admitted(connection_limiter, "2001:db8:0:8::1", "2001:db8:1:7::1") == [True, True]


def test_a_trusted_proxy_counts_in_total_only() -> None:
    connection_limiter = new_entrance(connections=4, connections_per_client=1)
    for _ in range(3):
        assert connection_limiter.admit(peer("192.0.2.7", trusted=True)) is not None
    assert admitted(connection_limiter, "192.0.2.7", "192.0.2.8") == [True, False]


def test_no_limit_for_one_client() -> None:
    connection_limiter = new_entrance(connections=50, connections_per_client=0)
    assert admitted(connection_limiter, *["192.0.2.7"] * 51) == [True] * 50 + [False]
    assert repr(connection_limiter) == "<Entrance inside=50 clients=0 lingering=0>"


guests = st.tuples(st.sampled_from(["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"]), st.booleans())


@given(st.lists(guests | st.integers(0, 20)))
def test_nothing_is_left_of_who_is_not_here(moves: list[tuple[str, bool] | int]) -> None:
    """They come (an address, and whether it is trusted) and go (a number of one who is here)."""
    connection_limiter = new_entrance(connections=6, connections_per_client=2)
    here: list[tuple[Permit, str | None]] = []
    for move in moves:
        if isinstance(move, int):
            if here:
                connection_limiter.leave(here.pop(move % len(here))[0])
            continue
        address, trusted = move
        client = None if trusted else address.partition("::")[0]
        permit = connection_limiter.admit(peer(address, trusted=trusted))
        counted = Counter(other for _, other in here)
        assert (permit is None) == (len(here) == 6 or (client is not None and counted[client] == 2))
        if permit is not None:
            here.append((permit, client))
        assert f"inside={len(here)} clients={len({client for _, client in here} - {None})} " in repr(
            connection_limiter
        )
    for permit, _ in here:
        connection_limiter.leave(permit)
    assert repr(connection_limiter) == EMPTY


def test_who_never_came_in_does_not_leave() -> None:
    connection_limiter = new_entrance()
    connection_limiter.leave(None)
    assert repr(connection_limiter) == EMPTY


@pytest.mark.parametrize("edge", [b"edge-1", b"100%d%b%%"])
def test_what_the_one_too_many_is_told(edge: bytes) -> None:
    told: list[Outcome] = []
    connection_limiter = new_entrance(told, edge=edge)
    ids = set()
    for _ in range(40):
        written: list[bytes] = []
        assert connection_limiter.turn_away(peer("192.0.2.7"), written.append) is TURNED_AWAY
        judge = h11.Connection(h11.CLIENT)
        judge.send(h11.Request(method="GET", target="/", headers=[("Host", "judge")]))
        judge.send(h11.EndOfMessage())
        judge.receive_data(b"".join(written))
        head, body, end = judge.next_event(), judge.next_event(), judge.next_event()
        assert isinstance(head, h11.Response)
        assert isinstance(body, h11.Data)
        assert isinstance(end, h11.EndOfMessage)
        assert judge.trailing_data == (b"", False)
        fields = dict(head.headers)
        request_id = fields.pop(b"x-request-id")
        assert parsedate_to_datetime(fields.pop(b"date").decode()).tzinfo is not None
        assert (head.status_code, head.reason) == (503, b"Service Unavailable")
        assert fields == {
            b"x-styx-error": b"edge_overloaded",
            b"cache-control": b"no-store",
            b"content-type": b"text/plain; charset=utf-8",
            b"retry-after": b"2",
            b"content-length": b"%d" % len(body.data),
            b"x-styx-edge": edge,
            b"connection": b"close",
        }
        plain = LocalReplies().error(Cause.EDGE_OVERLOADED, accept=b"", host="", request_id=request_id.decode())
        assert bytes(body.data) == plain.body
        ids.add(request_id)
        said = told.pop()
        assert (said.id, said.client, said.status) == (request_id.decode(), "192.0.2.7", 503)
        assert (said.blame, said.phase, said.cause) == (Blame.EDGE, Phase.HEAD, Cause.EDGE_OVERLOADED)
        assert (said.bytes_in, said.bytes_out, said.attempts) == (0, len(body.data), [])
    assert len(ids) == 40


def test_those_turned_away_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entrance_module, "MAX_LINGERING", 2)
    told: list[Outcome] = []
    connection_limiter, written = new_entrance(told), list[bytes]()
    badges = [connection_limiter.turn_away(peer("192.0.2.7"), written.append) for _ in range(4)]
    assert badges == [TURNED_AWAY, TURNED_AWAY, None, None]
    assert (len(written), len(told)) == (2, 2)
    connection_limiter.leave(badges[0])
    assert connection_limiter.turn_away(peer("192.0.2.7"), written.append) is TURNED_AWAY
    for _ in range(2):
        connection_limiter.leave(TURNED_AWAY)
    assert repr(connection_limiter) == EMPTY


# with connections


@pytest.fixture
def narrow(bench):
    """A worker with room for one."""
    bench.worker.context.connection_limiter = new_entrance(bench.outcomes, connections=1)
    return bench


async def test_nothing_is_read_from_the_one_too_many(narrow):
    context = narrow.worker.context
    first, second = narrow.client(), narrow.client()
    assert second.written.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert isinstance(second.protocol, LingeringClose)
    assert second.protocol.deadline <= context.clock() + context.turned_away_for
    second.protocol.data_received(b"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n")
    first.protocol.data_received(b"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n")
    await turns()
    assert len(narrow.requests) == 1
    assert [outcome.cause for outcome in narrow.outcomes] == ["edge_overloaded", "ok"]
    assert repr(context.connection_limiter) == "<Entrance inside=1 clients=1 lingering=1>"
    second.protocol.deadline_passed(second.protocol.deadline + 0.1)
    assert second.closed == "abort"
    await turns()
    assert repr(context.connection_limiter) == "<Entrance inside=1 clients=1 lingering=0>"
    assert (context.counts.accepted, context.counts.refused, context.counts.connections) == (2, 1, 1)
    first.lose()
    assert repr(context.connection_limiter) == EMPTY
    assert narrow.client().written == b""


async def test_one_too_many_of_those_turned_away_is_told_nothing(narrow, monkeypatch):
    monkeypatch.setattr(entrance_module, "MAX_LINGERING", 1)
    first, second, third = (narrow.client() for _ in range(3))
    assert (third.written, third.closed) == (b"", "abort")
    third.protocol.data_received(b"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n")
    await turns()
    assert not narrow.requests
    assert len(narrow.outcomes) == 1
    assert narrow.worker.context.counts.refused == 2
    for client in (first, second):
        client.lose()
    assert repr(narrow.worker.context.connection_limiter) == EMPTY
    assert narrow.worker.context.counts.connections == 0


async def test_a_refused_request_is_inside_until_it_has_lingered(narrow):
    client = narrow.client()
    client.protocol.data_received(b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n")
    assert b" 400 Bad Request" in client.written
    assert isinstance(client.protocol, LingeringClose)
    assert repr(narrow.worker.context.connection_limiter) == "<Entrance inside=1 clients=1 lingering=0>"
    client.lose()
    assert repr(narrow.worker.context.connection_limiter) == EMPTY
