"""The interface of whoever receives a backend's response, as the connection to the backend calls it."""

from typing import Protocol

from edge.rules.http.head_validation import Response
from edge.rules.http.messages import Fields, ResponseHead
from edge.rules.outcomes import Cause


class ResponseHandler(Protocol):
    """The receiver of a response: the exchange, or the shadow probe, that a connection is attached to."""

    __slots__ = ()

    def interim(self, head: ResponseHead) -> None:
        """Receive a 1xx response; the final response is still to come."""

    def switched(self, head: ResponseHead, rest: bytes) -> bool:
        """Receive a 101; `rest`: first bytes of the other protocol. False = no upgrade was requested."""

    def trailers(self, fields: Fields) -> None:
        """Receive the trailers, before the call that reports the end of the body."""

    def response_received(self, response: Response, pieces: list[bytes], done: bool) -> None:
        """Receive the head of the final response and what came of its body. `done`: the body is complete."""

    def response_body(self, pieces: list[bytes], done: bool) -> None:
        """Receive more of the body. `done`: the body is complete."""

    def backend_lost(self, cause: Cause) -> None:
        """The connection was lost, or its response could not be parsed; the handler is detached."""

    def backend_blocked(self) -> None:
        """The write buffer is full: send no more of the request body for now."""

    def backend_writable(self) -> None:
        """The write buffer has room again."""
