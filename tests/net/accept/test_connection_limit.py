"""The connection limit: who is admitted, which client a connection counts for, and what a rejected one gets."""

from collections import Counter
from email.utils import parsedate_to_datetime

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.net.accept.connection_limit import REJECTED, ConnectionLimiter, Permit
from edge.net.accept.lingering_close import LingeringClose
from edge.net.request.request_ids import RequestIds
from edge.rules.exchange_records import Outcome
from edge.rules.http.hop_by_hop import ClientInfo
from edge.rules.http.local_reply import LocalReplies
from edge.rules.limits.client_key import client_key
from edge.rules.outcomes import Blame, Cause, Phase
from edge.rules.settings import LimitSettings
from tests.support.fake_transports import turns

EMPTY = "<ConnectionLimiter admitted=0 clients=0 lingering=0>"


def client_at(address: str, *, trusted: bool = False) -> ClientInfo:
    return ClientInfo(address, port=80, trusted=trusted, via=b"styx")


def new_limiter(
    outcomes: list[Outcome] | None = None, *, edge: bytes = b"edge-1", **limits: int
) -> ConnectionLimiter:
    return ConnectionLimiter(
        LimitSettings(**limits),
        pages=LocalReplies(),
        edge_line=b"\r\nX-Styx-Edge: %b\r\n" % edge,
        request_ids=RequestIds(),
        observe=(outcomes if outcomes is not None else []).append,
    )


def admitted(connection_limiter: ConnectionLimiter, *addresses: str) -> list[bool]:
    return [connection_limiter.admit(client_at(address)) is not None for address in addresses]


def test_limit_in_total() -> None:
    connection_limiter = new_limiter(connections=3)
    permits = [connection_limiter.admit(client_at(f"192.0.2.{n}")) for n in range(3)]
    assert admitted(connection_limiter, "192.0.2.9", "2001:db8::9") == [False, False]
    connection_limiter.leave(permits[1])
    assert admitted(connection_limiter, "192.0.2.9", "192.0.2.8") == [True, False]


def test_limit_per_client() -> None:
    connection_limiter = new_limiter(connections_per_client=2)
    assert admitted(connection_limiter, "192.0.2.7", "192.0.2.7", "192.0.2.7", "192.0.2.8") == [
        True,
        True,
        False,
        True,
    ]
    connection_limiter.leave(client_key("192.0.2.7"))
    assert admitted(connection_limiter, "192.0.2.7", "192.0.2.7") == [True, False]


def test_an_ipv6_client_is_a_64_prefix() -> None:
    connection_limiter = new_limiter(connections_per_client=2)
    home = ["2001:db8:0:7::1", "2001:db8:0:7:ffff::", "2001:db8:0:7::2"]
    assert admitted(connection_limiter, *home) == [True, True, False]
    assert admitted(connection_limiter, "2001:db8:0:8::1", "2001:db8:1:7::1") == [True, True]


def test_a_trusted_proxy_counts_in_total_only() -> None:
    connection_limiter = new_limiter(connections=4, connections_per_client=1)
    for _ in range(3):
        assert connection_limiter.admit(client_at("192.0.2.7", trusted=True)) is not None
    assert admitted(connection_limiter, "192.0.2.7", "192.0.2.8") == [True, False]


def test_no_limit_for_one_client() -> None:
    connection_limiter = new_limiter(connections=50, connections_per_client=0)
    assert admitted(connection_limiter, *["192.0.2.7"] * 51) == [True] * 50 + [False]
    assert repr(connection_limiter) == "<ConnectionLimiter admitted=50 clients=0 lingering=0>"


arrivals = st.tuples(st.sampled_from(["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"]), st.booleans())


@given(st.lists(arrivals | st.integers(0, 20)))
def test_nothing_is_stored_about_clients_without_connections(moves: list[tuple[str, bool] | int]) -> None:
    """A move is an arrival (an address, and whether it is trusted) or a departure (the number of a connection)."""
    connection_limiter = new_limiter(connections=6, connections_per_client=2)
    present: list[tuple[Permit, str | None]] = []
    for move in moves:
        if isinstance(move, int):
            if present:
                connection_limiter.leave(present.pop(move % len(present))[0])
            continue
        address, trusted = move
        client = None if trusted else address.partition("::")[0]
        permit = connection_limiter.admit(client_at(address, trusted=trusted))
        counted = Counter(other for _, other in present)
        assert (permit is None) == (len(present) == 6 or (client is not None and counted[client] == 2))
        if permit is not None:
            present.append((permit, client))
        assert f"admitted={len(present)} clients={len({client for _, client in present} - {None})} " in repr(
            connection_limiter
        )
    for permit, _ in present:
        connection_limiter.leave(permit)
    assert repr(connection_limiter) == EMPTY


def test_leave_without_a_permit_changes_nothing() -> None:
    connection_limiter = new_limiter()
    connection_limiter.leave(None)
    assert repr(connection_limiter) == EMPTY


@pytest.mark.parametrize("edge", [b"edge-1", b"100%d%b%%"])
def test_response_to_a_rejected_connection(edge: bytes) -> None:
    outcomes: list[Outcome] = []
    connection_limiter = new_limiter(outcomes, edge=edge)
    ids = set()
    for _ in range(40):
        written: list[bytes] = []
        assert connection_limiter.turn_away(client_at("192.0.2.7"), written.append) is REJECTED
        parser = h11.Connection(h11.CLIENT)
        parser.send(h11.Request(method="GET", target="/", headers=[("Host", "judge")]))
        parser.send(h11.EndOfMessage())
        parser.receive_data(b"".join(written))
        head, body, end = parser.next_event(), parser.next_event(), parser.next_event()
        assert isinstance(head, h11.Response)
        assert isinstance(body, h11.Data)
        assert isinstance(end, h11.EndOfMessage)
        assert parser.trailing_data == (b"", False)
        fields = dict(head.headers)
        request_id = fields.pop(b"x-request-id")
        assert parsedate_to_datetime(fields.pop(b"date").decode()).tzinfo is not None
        assert (head.status_code, head.reason) == (503, b"Service Unavailable")
        assert fields == {
            b"x-styx-error": b"edge_overloaded",
            b"cache-control": b"no-store",
            b"vary": b"Accept, Accept-Language",
            b"content-type": b"text/plain; charset=utf-8",
            b"retry-after": b"2",
            b"content-length": b"%d" % len(body.data),
            b"x-styx-edge": edge,
            b"connection": b"close",
        }
        plain = LocalReplies().error(Cause.EDGE_OVERLOADED, accept=b"", host="", request_id=request_id.decode())
        assert bytes(body.data) == plain.body
        ids.add(request_id)
        outcome = outcomes.pop()
        assert (outcome.id, outcome.client, outcome.status) == (request_id.decode(), "192.0.2.7", 503)
        assert (outcome.blame, outcome.phase, outcome.cause) == (Blame.EDGE, Phase.HEAD, Cause.EDGE_OVERLOADED)
        assert (outcome.bytes_in, outcome.bytes_out, outcome.attempts) == (0, len(body.data), [])
    assert len(ids) == 40


def test_lingering_connections_are_bounded() -> None:
    outcomes: list[Outcome] = []
    connection_limiter, written = new_limiter(outcomes), list[bytes]()
    connection_limiter.most_lingering = 2
    permits = [connection_limiter.turn_away(client_at("192.0.2.7"), written.append) for _ in range(4)]
    assert permits == [REJECTED, REJECTED, None, None]
    assert (len(written), len(outcomes)) == (2, 2)
    connection_limiter.leave(permits[0])
    assert connection_limiter.turn_away(client_at("192.0.2.7"), written.append) is REJECTED
    for _ in range(2):
        connection_limiter.leave(REJECTED)
    assert repr(connection_limiter) == EMPTY


# with connections


@pytest.fixture
def narrow(bench):
    """A worker with room for one."""
    bench.worker.context.connection_limiter = new_limiter(bench.outcomes, connections=1)
    return bench


async def test_nothing_is_read_from_a_rejected_connection(narrow):
    context = narrow.worker.context
    first, second = narrow.client(), narrow.client()
    assert second.written.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert isinstance(second.protocol, LingeringClose)
    assert second.protocol.deadline <= context.clock() + context.rejected_linger
    second.protocol.data_received(b"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n")
    first.protocol.data_received(b"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n")
    await turns()
    assert len(narrow.requests) == 1
    assert [outcome.cause for outcome in narrow.outcomes] == ["edge_overloaded", "ok"]
    assert repr(context.connection_limiter) == "<ConnectionLimiter admitted=1 clients=1 lingering=1>"
    second.protocol.deadline_passed(second.protocol.deadline + 0.1)
    assert second.closed == "abort"
    await turns()
    assert repr(context.connection_limiter) == "<ConnectionLimiter admitted=1 clients=1 lingering=0>"
    assert (context.counts.accepted, context.counts.refused, context.counts.connections) == (2, 1, 1)
    first.lose()
    assert repr(context.connection_limiter) == EMPTY
    assert narrow.client().written == b""


async def test_without_room_to_linger_a_rejected_connection_is_only_closed(narrow):
    narrow.worker.context.connection_limiter.most_lingering = 1
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


async def test_a_rejected_request_is_counted_until_the_end_of_its_lingering_close(narrow):
    client = narrow.client()
    client.protocol.data_received(b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n")
    assert b" 400 Bad Request" in client.written
    assert isinstance(client.protocol, LingeringClose)
    assert repr(narrow.worker.context.connection_limiter) == "<ConnectionLimiter admitted=1 clients=1 lingering=0>"
    client.lose()
    assert repr(narrow.worker.context.connection_limiter) == EMPTY
