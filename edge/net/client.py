"""Who sent a request, as its exchange sees it: an HTTP/1.1 connection, or any other carrier of one request.

    Exchange ──responses, by meaning──► Client ──bytes, framing, keep-alive──► transport

Responses are handed over by meaning. How they are framed, whether the connection is used again and what an older
version of HTTP does not understand is decided by the implementer. (Envoy: `ResponseEncoder`; Pingora: `Session`.)
"""

import asyncio
from typing import NamedTuple, Protocol

from edge.rules.http.head_validation import Response
from edge.rules.http.hop_by_hop import ClientInfo
from edge.rules.http.local_reply import LocalReply
from edge.rules.http.messages import ResponseHead


class ConnectionLost(Protocol):
    """The part of an asyncio protocol that is told of the end of its connection."""

    def connection_lost(self, exc: Exception | None) -> None: ...


class TunnelSide(NamedTuple):
    """One of the two connections that become a tunnel."""

    transport: asyncio.Transport
    former: ConnectionLost
    "Who had the connection until now, and is told when it is lost."
    early: bytes
    "What came behind the switch to the other protocol."


class Client(Protocol):
    """One request's client. It tells the exchange when the body comes, and when the client has left."""

    info: ClientInfo
    "Its address, and what backends are told of it."
    deadline: float
    "When `Exchange.deadline_passed` is called; on the worker's clock."
    writable: bool
    "Whether it takes more of the response. HTTP/1.1: between `pause_writing` and `resume_writing`."
    paused: bool
    "Whether nothing is read from it: neither its body nor its end."
    deferred: bool
    "Its next request is read when other clients have had their turn."

    def pause_body(self) -> None:
        """Nobody takes the request body for now. HTTP/1.1: read no more from the socket."""

    def resume_body(self) -> None:
        """The body is wanted again; what was read already comes first."""

    def note_buffers(self) -> None:
        """The exchange keeps more of the body in memory than before."""

    def send_interim(self, head: ResponseHead) -> None:
        """A 1xx response. Dropped for an HTTP/1.0 client (RFC 9110, section 15.2)."""

    def send_response(
        self,
        answer: Response,
        request_id: bytes,
        backend: bytes,
        pieces: list[bytes],
        *,
        done: bool,
        trailers: bytes,
    ) -> None:
        """The head of the final response, and what came of its body. `backend`: the field that names it; `done`:
        that is all of the body, and `trailers` follow it."""

    def send_body(self, pieces: list[bytes], *, done: bool, trailers: bytes) -> None:
        """More of the body."""

    def send_local_reply(self, page: LocalReply, request_id: bytes) -> None:
        """A whole response that the edge makes itself."""

    def switch(self, head: ResponseHead, protocols: list[bytes], request_id: bytes, backend: bytes) -> TunnelSide:
        """The 101 response; from here on the connection belongs to a tunnel."""

    def end(self, now: float) -> None:
        """The response is complete. HTTP/1.1: the next request, or close."""

    def abort(self) -> None:
        """The response under way is not complete and never will be: end it so that the client can tell."""
