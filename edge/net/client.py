"""The interface through which an exchange uses its client: an HTTP/1.1 connection, or a stream of an HTTP/2
connection.

    Exchange ──responses, by meaning──► Client ──bytes, framing, keep-alive──► transport

Responses are handed over by meaning. The implementer decides how they are framed, whether the connection is used
again, and what a client of an older version of HTTP gets. (Envoy: `ResponseEncoder`; Pingora: `Session`.)
"""

import asyncio
from typing import NamedTuple, Protocol

from edge.rules.http.head_validation import Response
from edge.rules.http.hop_by_hop import ClientInfo
from edge.rules.http.local_reply import LocalReply
from edge.rules.http.messages import ResponseHead


class ConnectionLost(Protocol):
    """The part of an asyncio protocol that learns that its connection has ended."""

    def connection_lost(self, exc: Exception | None) -> None: ...


class TunnelSide(NamedTuple):
    """One of the two connections that become a tunnel."""

    transport: asyncio.Transport
    former: ConnectionLost
    "The protocol that had the connection until now; it is called when the connection is lost."
    early: bytes
    "The bytes of the new protocol that have come already."


class Client(Protocol):
    """The client of one request. It calls the exchange when the body comes, and when the client has left."""

    protocol: str
    "The version of HTTP, as in the access log; empty = HTTP/1, whose minor version is that of the request."
    stream: int
    "The id of the stream of HTTP/2; 0 = there are no streams."
    info: ClientInfo
    "Its address, and the fields about it that are sent to backends."
    deadline: float
    "When the sweep calls `Exchange.deadline_passed`, on the worker's clock."
    writable: bool
    "Whether it takes more of the response. HTTP/1.1: not between `pause_writing` and `resume_writing`."
    paused: bool
    "Whether nothing is read from it: neither its body nor its end."
    deferred: bool
    "Whether its next request is read only after those of other clients."

    def pause_body(self) -> None:
        """Stop taking the request body. HTTP/1.1: read no more from the socket."""

    def resume_body(self) -> None:
        """Take the request body again, first what was read already."""

    def note_buffers(self) -> None:
        """The exchange has more of the request body in memory than before."""

    def send_interim(self, head: ResponseHead) -> None:
        """A 1xx response. Dropped for an HTTP/1.0 client (RFC 9110, section 15.2)."""

    def send_response(
        self,
        response: Response,
        request_id: bytes,
        backend: bytes,
        pieces: list[bytes],
        size: int,
        *,
        done: bool,
        trailers: bytes,
    ) -> None:
        """The head of the final response, and what came of its body, in `pieces` of `size` bytes together.
        `backend`: the header line that names the backend; `done`: that is all of the body, and `trailers` follow
        it."""

    def send_body(self, pieces: list[bytes], *, done: bool, trailers: bytes) -> None:
        """More of the body."""

    def send_local_reply(self, page: LocalReply, request_id: bytes) -> None:
        """A whole response, made by the edge."""

    def may_switch(self, head: ResponseHead) -> bool:
        """Whether this 101 response answers the handshake, as far as the client cannot check that by itself."""

    def switch(self, head: ResponseHead, protocols: list[bytes], request_id: bytes, backend: bytes) -> TunnelSide:
        """The 101 response; from here on the connection belongs to a tunnel."""

    def end(self, now: float) -> None:
        """The response is complete. HTTP/1.1: the next request, or close."""

    def abort(self) -> None:
        """The response that was begun will not be completed: end it so that the client can tell."""
