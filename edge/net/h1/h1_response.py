"""Writes the responses of an HTTP/1.1 connection: framing, keep-alive, and the bytes (RFC 9112).

A body of unknown length is chunked for an HTTP/1.1 client, so that it can tell a complete response from a cut one;
an HTTP/1.0 client gets it until the connection ends.
"""

from collections.abc import Callable
from time import time

from edge.net.client import TunnelSide
from edge.net.transport.read_control import ReadControl
from edge.net.worker_context import WorkerContext
from edge.rules.http.framing import NO_BODY, Body, Framing
from edge.rules.http.h1_encode import chunk, connection_line, own_head, passed_head, switching_head
from edge.rules.http.head_validation import Request, Response
from edge.rules.http.hop_by_hop import last_chunk, status_line
from edge.rules.http.local_reply import LocalReply, date_line
from edge.rules.http.messages import ResponseHead

_NONE, _LENGTH, _CHUNKED, _CLOSE = Framing.NONE, Framing.LENGTH, Framing.CHUNKED, Framing.CLOSE
SMALL = 16 * 1024
"Bytes of a body that are copied behind the head to leave in one piece; more is written without a copy."
_LAST_CHUNK = last_chunk(b"")
_NO_REQUEST = Request.refused()


def discard(data: bytes) -> None:
    """Where bytes for a client go that has left."""


class ResponseWriter(ReadControl):
    """The part of a client connection that writes."""

    __slots__ = ("_context", "_framing", "_keep_alive", "_request", "body", "requests", "write")

    def __init__(self, context: WorkerContext) -> None:
        super().__init__(context.reading)
        self._context = context
        self.write: Callable[[bytes], object] = discard
        "Sends bytes of the response; the transport's own method, which saves a call."
        self.requests = 0
        "Requests read so far."
        # for the request in hand
        self._request = _NO_REQUEST
        self.body: Body = NO_BODY
        "Of the request."
        self._framing = _NONE
        "Of the response that was begun last."
        self._keep_alive = False
        "Whether another request may follow that response."

    @property
    def is_close_delimited(self) -> bool:
        """Whether a response was begun whose end is the end of the connection."""
        return self._framing is _CLOSE

    def _allows_another(self) -> bool:
        """Whether another request may follow the one in hand."""
        context = self._context
        return (
            self._request.keep_alive
            and self.body.done
            and self.requests < context.hot.requests_per_connection
            and not context.draining
        )

    def send_interim(self, head: ResponseHead) -> None:
        """A 1xx response: 1.0 clients do not know them (RFC 9110, section 15.2)."""
        if self._request.minor:
            lines = self._context.head_reader.interim_lines(head)
            self.write(b"".join((status_line(head.status, head.reason), *lines, b"\r\n")))

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
        """The head of the final response, and what came of its body."""
        request, context, framing = self._request, self._context, answer.framing
        keep_alive = (
            request.keep_alive
            and self.body.done
            and self.requests < context.hot.requests_per_connection
            and not context.draining
        )  # as `_allows_another`, without a call
        body, head, size = pieces, answer.head, 0
        for piece in pieces:
            size += len(piece)
        if framing is _CHUNKED or framing is _CLOSE:
            framing = _CHUNKED if request.minor else _CLOSE
            keep_alive = keep_alive and framing is not _CLOSE
            head = passed_head(answer, framing)
            if framing is _CHUNKED:
                body = _chunks(pieces, done=done, trailers=trailers)
        self._framing = framing
        self._keep_alive = keep_alive
        wire = [
            head,
            b"" if answer.has_date else date_line(int(time())),
            b"X-Request-Id: ",
            request_id,
            context.edge_line,
            backend,
            b"\r\n" if keep_alive and request.minor else connection_line(request, keep_alive=keep_alive),
            *body,
        ]
        if size < SMALL:
            self.write(b"".join(wire))
        else:
            self.write_all(wire)

    def send_body(self, pieces: list[bytes], *, done: bool, trailers: bytes) -> None:
        """More of the body."""
        self.write_all(_chunks(pieces, done=done, trailers=trailers) if self._framing is _CHUNKED else pieces)

    def send_local_reply(self, page: LocalReply, request_id: bytes) -> None:
        """A whole response that the edge makes itself."""
        request = self._request
        self._keep_alive = keep_alive = self._allows_another()
        line = connection_line(request, keep_alive=keep_alive)
        own_lines = (date_line(int(time())), b"X-Request-Id: ", request_id, self._context.edge_line, line)
        self.write(own_head(request, page, own_lines) + (b"" if request.method == b"HEAD" else page.body))

    def switch(self, head: ResponseHead, protocols: list[bytes], request_id: bytes, backend: bytes) -> TunnelSide:
        """The 101 response; from here on the connection belongs to a tunnel."""
        lines = b"".join(self._context.head_reader.interim_lines(head))
        own_lines = (b"X-Request-Id: ", request_id, self._context.edge_line, backend)
        self.write(switching_head(head, lines, protocols, own_lines))
        return self.hand_over()

    def write_all(self, parts: list[bytes]) -> None:
        """Send several pieces; no copies are made."""
        if self._transport is not None:
            if len(parts) == 1:
                self._transport.write(parts[0])
            else:
                self._transport.writelines(parts)

    def hand_over(self) -> TunnelSide:
        """Give the connection to a tunnel."""
        raise NotImplementedError


def _chunks(pieces: list[bytes], *, done: bool, trailers: bytes) -> list[bytes]:
    """These pieces of a body in the chunked coding, with its end when it is `done`."""
    parts = chunk(pieces)
    if done:
        parts.append(last_chunk(trailers) if trailers else _LAST_CHUNK)
    return parts
