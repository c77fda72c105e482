"""Reading a PROXY header: in any pieces, from trusted proxies only, within the timeout."""

from collections.abc import Callable
from functools import partial

import pytest

from edge.net.accept.accept_chain import NewConnection
from edge.net.accept.lingering_close import LingeringClose
from edge.net.accept.proxy_protocol_reader import ProxyProtocolReader, proxies_only
from edge.net.h1.h1_connection import H1Connection
from edge.rules.http.hop_by_hop import ClientInfo
from tests.support.fake_transports import FakeTransport, turns

TEXT = b"PROXY TCP4 203.0.113.9 198.51.100.1 56324 443\r\n"
BINARY = bytes.fromhex("0D0A0D0A000D0A515549540A 21 11 000C CB007109 C6336401 DC04 01BB")
LOCAL = bytes.fromhex("0D0A0D0A000D0A515549540A 20 00 0000")
REQUEST = b"GET /1 HTTP/1.1\r\nHost: shop.test\r\n\r\n"

Connect = Callable[..., FakeTransport]


@pytest.fixture
def connect(bench) -> Connect:
    """connect(): a new connection of a trusted proxy."""

    def connected(*, trusted: bool = True, reset: bool = False) -> FakeTransport:
        proxy = ClientInfo("192.0.2.7", port=8080, trusted=trusted, via=b"styx")
        context = bench.worker.context
        reader = partial(
            ProxyProtocolReader,
            info_of_proxied=lambda proxied: ClientInfo(
                proxied.address, port=proxied.port, trusted=False, via=b"styx"
            ),
        )
        info_of = proxies_only(context, lambda _: None if reset else proxy)
        return FakeTransport(NewConnection(context, info_of, (reader, H1Connection)))

    return connected


def counted(bench) -> tuple[int, int, int, str]:
    context = bench.worker.context
    counts = context.counts
    return counts.connections, counts.accepted, counts.refused, repr(context.connection_limiter)


EMPTY = "<ConnectionLimiter admitted=0 clients=0 lingering=0>"


@pytest.mark.parametrize("header", [TEXT, BINARY], ids=["v1", "v2"])
@pytest.mark.parametrize("cut", [*range(1, 64), 1000])
async def test_a_stream_cut_in_two_at_any_byte(bench, connect, header, cut):
    stream = header + REQUEST
    client = connect()
    for piece in filter(None, (stream[:cut], stream[cut:])):
        client.protocol.data_received(piece)
    await turns()
    [request] = bench.requests
    assert b"\r\nX-Forwarded-For: 203.0.113.9\r\n" in request
    assert b"\r\nX-Forwarded-Port: 443\r\n" in request
    assert [outcome.client for outcome in bench.outcomes] == ["203.0.113.9"]
    assert isinstance(client.protocol, H1Connection)
    assert counted(bench) == (1, 1, 0, "<ConnectionLimiter admitted=1 clients=1 lingering=0>")
    client.lose()
    assert counted(bench) == (0, 1, 0, EMPTY)


@pytest.mark.parametrize("header", [TEXT, BINARY], ids=["v1", "v2"])
async def test_byte_by_byte(bench, connect, header):
    client = connect()
    for byte in header + REQUEST:
        client.protocol.data_received(bytes([byte]))
    await turns()
    assert [outcome.client for outcome in bench.outcomes] == ["203.0.113.9"]


@pytest.mark.parametrize("header", [LOCAL, b"PROXY UNKNOWN\r\n"])
async def test_a_header_that_names_no_client(bench, connect, header):
    """The address of the proxy is used, and the forwarding fields of the request are not trusted."""
    client = connect()
    client.protocol.data_received(header + REQUEST.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: 10.1.1.1\r\n\r\n"))
    await turns()
    assert b"\r\nX-Forwarded-For: 192.0.2.7\r\n" in bench.requests[0]
    assert b"\r\nX-Forwarded-Port: 8080\r\n" in bench.requests[0]
    assert counted(bench) == (1, 1, 0, "<ConnectionLimiter admitted=1 clients=1 lingering=0>")


@pytest.mark.parametrize("wrong", [b"G", REQUEST, b"PROXY TCP9", BINARY[:12] + b"\x11", b"\x16\x03\x01"])
async def test_an_invalid_header_gets_no_response(bench, connect, wrong):
    client = connect()
    client.protocol.data_received(wrong)
    assert (client.closed, client.written) == ("abort", b"")
    client.protocol.data_received(TEXT + REQUEST)  # the loop has not closed it yet
    await turns()
    assert not bench.requests
    assert not bench.outcomes
    assert counted(bench) == (0, 1, 1, EMPTY)


async def test_only_trusted_proxies_may_connect(bench, connect):
    client = connect(trusted=False)
    assert (client.closed, client.written) == ("abort", b"")
    client.protocol.data_received(TEXT + REQUEST)
    await turns()
    assert not bench.requests
    assert counted(bench) == (0, 1, 1, EMPTY)


async def test_reset_before_it_was_accepted(bench, connect):
    client = connect(reset=True)
    assert client.closed == "abort"
    client.protocol.data_received(TEXT + REQUEST)
    await turns()
    assert not bench.requests
    assert counted(bench) == (0, 1, 0, EMPTY)


@pytest.mark.parametrize("sent", [b"", b"PROXY TCP4 203.", BINARY[:-1]])
async def test_timeout_of_the_header(bench, connect, sent):
    client = connect()
    context = bench.worker.context
    reader = client.protocol
    assert context.clock() < reader.deadline <= context.clock() + context.timeouts.head
    if sent:
        reader.data_received(sent)
    reader.deadline_passed(reader.deadline + 0.1)
    assert (client.closed, client.written) == ("abort", b"")
    reader.deadline_passed(reader.deadline + 0.1)
    await turns()
    assert counted(bench) == (0, 1, 1, EMPTY)


async def test_a_proxy_that_leaves(bench, connect):
    client = connect()
    client.protocol.data_received(TEXT[:-1])
    assert repr(client.protocol) == f"<ProxyProtocolReader 192.0.2.7 {len(TEXT) - 1} bytes>"
    client.lose()
    assert repr(client.protocol) == f"<ProxyProtocolReader nobody {len(TEXT) - 1} bytes>"
    assert counted(bench) == (0, 1, 0, EMPTY)


async def test_the_deadline_of_the_head_begins_with_the_head(bench, connect):
    client = connect()
    client.protocol.deadline = 1.0
    client.protocol.data_received(TEXT)
    assert isinstance(client.protocol, H1Connection)
    assert client.protocol.deadline > bench.worker.context.clock()


@pytest.mark.parametrize("full", ["connections", "connections_per_client"])
async def test_beyond_a_connection_limit(bench, connect, full):
    """In total, before the header is read; or for the client that the header names."""
    context = bench.worker.context
    limits = context.limits.model_copy(update={full: 1})
    context.connection_limiter.reconfigure(limits)
    first = connect()
    first.protocol.data_received(TEXT)
    second = connect()
    if full == "connections_per_client":
        assert second.written == b""
        second.protocol.data_received(TEXT + REQUEST)
    assert b"\r\nX-Styx-Error: edge_overloaded\r\n" in second.written
    assert isinstance(second.protocol, LingeringClose)
    second.protocol.data_received(REQUEST)
    await turns()
    assert not bench.requests
    rejected = "192.0.2.7" if full == "connections" else "203.0.113.9"
    assert [(outcome.cause, outcome.client) for outcome in bench.outcomes] == [("edge_overloaded", rejected)]
    assert counted(bench) == (2, 2, 1, "<ConnectionLimiter admitted=1 clients=1 lingering=1>")
    for client in (second, first):
        client.lose()
    assert counted(bench) == (0, 2, 1, EMPTY)
