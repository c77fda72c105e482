"""Writes responses on an HTTP/1.1 connection of a client: framing, keep-alive, and the bytes (RFC 9112).

A body of unknown length is chunked for an HTTP/1.1 client, so that the client can distinguish a complete response
from a truncated one. For an HTTP/1.0 client the end of the connection delimits it.
"""

from collections.abc import Callable
from time import time
from typing import Final

from edge.net.client import TunnelSide
from edge.net.transport.read_control import ReadControl
from edge.net.worker_context import WorkerContext
from edge.rules.http.framing import NO_BODY, Body, Framing
from edge.rules.http.h1_encode import chunk, connection_line, own_head, passed_head, switching_head
from edge.rules.http.head_validation import Request, Response
from edge.rules.http.hop_by_hop import last_chunk, status_line
from edge.rules.http.local_reply import LocalReply, date_line
from edge.rules.http.messages import ResponseHead

_NONE: Final = Framing.NONE
_LENGTH: Final = Framing.LENGTH
_CHUNKED: Final = Framing.CHUNKED
_CLOSE: Final = Framing.CLOSE
SMALL: Final = 16 * 1024
"Bytes of a body below which head and body are joined into one write; larger bodies are written without a copy."
_LAST_CHUNK: Final = last_chunk(b"")
_NO_REQUEST: Final = Request.refused()


def discard(data: bytes) -> None:
    """Discard bytes for a client whose connection is closed."""


class ResponseWriter(ReadControl):
    """The writing part of a client connection."""

    __slots__ = ("_context", "_framing", "_keep_alive", "_request", "body", "requests", "write")

    def __init__(self, context: WorkerContext) -> None:
        super().__init__(context.reading)
        self._context = context
        self.write: Callable[[bytes], object] = discard
        "Sends bytes of the response. It is the transport's own method, which saves a call."
        self.requests = 0
        "Requests read so far."
        # of the current request
        self._request = _NO_REQUEST
        self.body: Body = NO_BODY
        "Decoder of the request body."
        self._framing = _NONE
        "Framing of the latest response."
        self._keep_alive = False
        "Whether the connection stays open after that response."

    @property
    def is_close_delimited(self) -> bool:
        """Whether the latest response is delimited by the end of the connection."""
        return self._framing is _CLOSE

    def _allows_another(self) -> bool:
        """Whether another request may follow the current one."""
        context = self._context
        return (
            self._request.keep_alive
            and self.body.done
            and self.requests < context.hot.requests_per_connection
            and not context.draining
        )

    def send_interim(self, head: ResponseHead) -> None:
        """Send a 1xx response. It is dropped for an HTTP/1.0 client (RFC 9110, section 15.2)."""
        if self._request.minor:
            lines = self._context.head_reader.interim_lines(head)
            self.write(b"".join((status_line(head.status, head.reason), *lines, b"\r\n")))

    def send_response(
        self,
        response: Response,
        request_id: bytes,
        backend: bytes,
        pieces: list[bytes],
        *,
        done: bool,
        trailers: bytes,
    ) -> None:
        """Send the head of the final response, and what came of its body. `backend`: the field that names the
        backend; `done`: the body is complete, and `trailers` follow it."""
        request, context, framing = self._request, self._context, response.framing
        keep_alive = (
            request.keep_alive
            and self.body.done
            and self.requests < context.hot.requests_per_connection
            and not context.draining
        )  # as `_allows_another`, inlined to save a call
        body, head, size = pieces, response.head, 0
        for piece in pieces:
            size += len(piece)
        if framing is _CHUNKED or framing is _CLOSE:
            framing = _CHUNKED if request.minor else _CLOSE
            keep_alive = keep_alive and framing is not _CLOSE
            head = passed_head(response, framing)
            if framing is _CHUNKED:
                body = _chunks(pieces, done=done, trailers=trailers)
        self._framing = framing
        self._keep_alive = keep_alive
        wire = [
            head,
            b"" if response.has_date else date_line(int(time())),
            b"X-Request-Id: ",
            request_id,
            context.edge_line,
            backend,
            b"\r\n" if keep_alive and request.minor else connection_line(request, keep_alive=keep_alive),
        ]
        if size < SMALL:
            wire += body
            self.write(b"".join(wire))
        else:
            self.write_all([b"".join(wire), *body])

    def send_body(self, pieces: list[bytes], *, done: bool, trailers: bytes) -> None:
        """Send more of the body. `done`: the body is complete, and `trailers` follow it."""
        if self._framing is not _CHUNKED:
            self.write_all(pieces)
            return
        parts = _chunks(pieces, done=done, trailers=trailers)
        if len(pieces) == 1 and len(pieces[0]) < SMALL:
            self.write(b"".join(parts))
        else:
            self.write_all(parts)

    def send_local_reply(self, page: LocalReply, request_id: bytes) -> None:
        """Send a local reply: head and body."""
        request = self._request
        self._keep_alive = keep_alive = self._allows_another()
        line = connection_line(request, keep_alive=keep_alive)
        own_lines = (date_line(int(time())), b"X-Request-Id: ", request_id, self._context.edge_line, line)
        self.write(own_head(request, page, own_lines) + (b"" if request.method == b"HEAD" else page.body))

    def may_switch(self, head: ResponseHead) -> bool:
        """Always: the client made the key, and checks what the backend made of it (RFC 6455, section 4.1)."""
        return True

    def switch(self, head: ResponseHead, protocols: list[bytes], request_id: bytes, backend: bytes) -> TunnelSide:
        """Send the 101 response and give the connection to a tunnel."""
        lines = b"".join(self._context.head_reader.interim_lines(head))
        own_lines = (b"X-Request-Id: ", request_id, self._context.edge_line, backend)
        self.write(switching_head(head, lines, protocols, own_lines))
        return self.hand_over()

    def write_all(self, parts: list[bytes]) -> None:
        """Send several pieces without copies."""
        if self._transport is not None:
            if len(parts) == 1:
                self._transport.write(parts[0])
            else:
                self._transport.writelines(parts)

    def hand_over(self) -> TunnelSide:
        """Give the connection to a tunnel."""
        raise NotImplementedError


def _chunks(pieces: list[bytes], *, done: bool, trailers: bytes) -> list[bytes]:
    """Encode pieces of a body as chunks, with the last chunk when the body is `done`."""
    parts = chunk(pieces)
    if done:
        parts.append(last_chunk(trailers) if trailers else _LAST_CHUNK)
    return parts
