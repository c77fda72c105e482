"""For which requests the socket of an idle connection is checked by a system call before it is reused."""

import pytest

from tests.net.conftest import Bench
from tests.support.fake_transports import turns

GET = b"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 2\r\n\r\nok"
EMPTY_POST = b"POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 0\r\n\r\n"
GET_WITH_BODY = b"GET / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 2\r\n\r\nok"


@pytest.mark.parametrize(
    ("request_", "may_repeat", "checked"),
    [
        (GET, True, False),
        (GET, False, True),
        (POST, True, True),
        (EMPTY_POST, True, True),
        (GET_WITH_BODY, True, True),
    ],
    ids=["GET", "GET, one attempt only", "POST", "empty POST", "GET with a body"],
)
async def test_idle_connection_is_checked(bench: Bench, request_: bytes, may_repeat: bool, checked: bool) -> None:
    context = bench.worker.context
    client = bench.client()
    client.protocol.data_received(GET)
    while b"200 OK" not in client.written:
        await turns(1)
    context.hot.may_repeat = may_repeat
    bench.loop.transports[0].sockets[1].send(b"nobody checked for this")
    client.protocol.data_received(request_)
    await turns(4)
    assert len(bench.loop.transports) == (2 if checked else 1)
