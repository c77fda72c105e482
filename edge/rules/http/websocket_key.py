"""The key of a WebSocket handshake, and the proof that a server has read it (RFC 6455, sections 4.1 and 4.2.2).

Over HTTP/2 a client sends no key (RFC 8441, section 5.1): the edge makes one for the backend, and checks the proof.
A backend that switches without it is not a WebSocket server, and its bytes would pass for messages. Pure.
"""

import base64
import hashlib
from typing import Final

from edge.rules.http.messages import Fields

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def websocket_key(random: bytes) -> bytes:
    """The key of these 16 bytes, which must be chosen at random."""
    return base64.b64encode(random)


def websocket_accept(key: bytes) -> bytes:
    """The value of Sec-WebSocket-Accept for a key."""
    return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())


def is_accepted(fields: Fields, accept: bytes) -> bool:
    """Whether these fields of a 101 response have the proof, once. `accept`: what it must be."""
    values = [value.strip(b" \t") for name, value in fields if name.lower() == b"sec-websocket-accept"]
    return values == [accept]
