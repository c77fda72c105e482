"""HTTP/1.1 encoding: heads of requests to backends, of responses to clients and of local replies, and chunks.

Each head is one `join` of pieces, most of which are prepared once per worker, client connection or backend.
"""

from typing import Final

from edge.rules.http.framing import Framing
from edge.rules.http.head_validation import Request, Response
from edge.rules.http.hop_by_hop import ClientInfo, framing_line, own_status_line, status_line
from edge.rules.http.local_reply import LocalReply
from edge.rules.http.messages import ResponseHead

MANY: Final = 8
"More pieces of a body than this are cheaper to join than to write one by one."


def forwarded_head(request: Request, client: ClientInfo, request_id: bytes, last: bytes = b"") -> bytes:
    """The head of a request for a backend. `last`: the last lines, which name the backend and the attempt; without
    them it is the same for all backends."""
    host = request.host_field
    if client.is_usual and request.minor and b"via" not in request.found:
        lines, forwarded_host = client.usual_lines, host
    else:
        lines, forwarded_host = client.lines(request.found, host, request.minor)
    # One join: formatting bytes takes twice as long.
    return b"".join(
        (
            request.line or b"%b %b HTTP/1.1" % (request.method, request.target),
            b"\r\nHost: ",
            host,
            b"\r\n",
            request.lines,
            lines,
            b"X-Forwarded-Host: ",
            forwarded_host,
            b"\r\nX-Request-Id: ",
            request_id,
            b"\r\n",
            last,
        )
    )


def passed_head(response: Response, framing: Framing) -> bytes:
    """The head of a backend's response as the client gets it, without the fields that styx adds. `framing`: how
    the body is framed for the client."""
    return response.head if framing is response.framing else response.lines + framing_line(framing, response.length)


def switching_head(head: ResponseHead, lines: bytes, protocols: list[bytes], own_lines: tuple[bytes, ...]) -> bytes:
    """The head of the 101 response with which a tunnel begins. `lines`: the backend's fields that are forwarded."""
    return b"".join(
        (
            status_line(head.status, head.reason),
            lines,
            b"Upgrade: %b\r\nConnection: Upgrade\r\n" % b", ".join(protocols),
            *own_lines,
            b"\r\n",
        )
    )


def own_head(request: Request, page: LocalReply, own_lines: tuple[bytes, ...]) -> bytes:
    """The head of a local reply, without the connection line."""
    return b"".join(
        (
            own_status_line(page.status),
            page.lines,
            b"Content-Length: %d\r\n" % len(page.body),
            *own_lines,
        )
    )


def connection_line(request: Request, *, keep_alive: bool) -> bytes:
    """The last field line of a response head, and the empty line. Keep-alive is the default in HTTP/1.1 only; an
    HTTP/1.0 client needs the field."""
    if keep_alive:
        return b"\r\n" if request.minor else b"Connection: keep-alive\r\n\r\n"
    return b"Connection: close\r\n\r\n"


def joined(pieces: list[bytes]) -> list[bytes]:
    """The same bytes in at most MANY pieces."""
    return [b"".join(pieces)] if len(pieces) > MANY else pieces


def chunk(pieces: list[bytes]) -> list[bytes]:
    """Encode these pieces as one chunk (RFC 9112, section 7.1). Nothing for no bytes: an empty chunk would end the
    body."""
    pieces = joined(pieces)
    size = sum(map(len, pieces))
    return [b"%x\r\n" % size, *pieces, b"\r\n"] if size else []
