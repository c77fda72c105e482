"""The key of a WebSocket handshake, and its proof."""

import pytest

from edge.rules.http.websocket_key import is_accepted, websocket_accept, websocket_key

KEY, ACCEPT = b"dGhlIHNhbXBsZSBub25jZQ==", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
"The example of RFC 6455, section 1.3."


def test_the_example_of_the_standard():
    assert websocket_key(b"the sample nonce") == KEY
    assert websocket_accept(KEY) == ACCEPT


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([(b"Sec-WebSocket-Accept", ACCEPT)], True),
        ([(b"Upgrade", b"websocket"), (b"sec-websocket-accept", b" " + ACCEPT + b"\t")], True),
        ([], False),
        ([(b"Sec-WebSocket-Accept", b"")], False),
        ([(b"Sec-WebSocket-Accept", ACCEPT.lower())], False),
        ([(b"Sec-WebSocket-Accept", ACCEPT), (b"Sec-WebSocket-Accept", ACCEPT)], False),
        ([(b"Sec-WebSocket-Accept", ACCEPT + b", " + ACCEPT)], False),
    ],
)
def test_the_proof_is_there_once(fields, expected):
    assert is_accepted(fields, ACCEPT) is expected
