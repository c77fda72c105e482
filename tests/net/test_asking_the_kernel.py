"""Which requests go by what the loop knows of a kept connection, and for which the kernel is asked once more."""

import pytest

from tests.net.conftest import Bench
from tests.support.fake_transports import turns

GET = b"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 2\r\n\r\nok"
EMPTY_POST = b"POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 0\r\n\r\n"
GET_WITH_BODY = b"GET / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 2\r\n\r\nok"


@pytest.mark.parametrize(
    ("request_", "may_repeat", "asked"),
    [
        (GET, True, False),
        (GET, False, True),
        (POST, True, True),
        (EMPTY_POST, True, True),
        (GET_WITH_BODY, True, True),
    ],
    ids=["GET", "GET, one attempt only", "POST", "empty POST", "GET with a body"],
)
async def test_who_asks(bench: Bench, request_: bytes, may_repeat: bool, asked: bool) -> None:
    context = bench.worker.context
    client = bench.client()
    client.protocol.data_received(GET)
    while b"200 OK" not in client.written:
        await turns(1)
    context.hot.may_repeat = may_repeat
    bench.loop.transports[0].sockets[1].send(b"nobody asked for this")
    client.protocol.data_received(request_)
    await turns(4)
    assert len(bench.loop.transports) == (2 if asked else 1)
