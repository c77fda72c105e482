"""Messages as they leave the edge: the head of a request to a backend, of a response to the client, of our own.

Each is put together in one `join` from pieces that are mostly made once: per worker, per client connection,
per backend.
"""

from edge.rules.http.framing import Framing
from edge.rules.http.head_validation import Request, Response
from edge.rules.http.hop_by_hop import ClientInfo, framing_line, own_status_line, status_line
from edge.rules.http.local_reply import LocalReply
from edge.rules.http.messages import ResponseHead

MANY = 8
"Pieces of a body that are cheaper to copy together than to write one by one."


def forwarded_head(request: Request, peer: ClientInfo, request_id: bytes) -> bytes:
    """The head of a request for any backend, less the last lines, which name the backend and the attempt."""
    host = request.host_field
    if peer.is_usual and request.minor and b"via" not in request.found:
        lines, forwarded_host = peer.usual_lines, host
    else:
        lines, forwarded_host = peer.lines(request.found, host, request.minor)
    # One join: to format bytes takes twice as long.
    return b"".join(
        (
            request.method,
            b" ",
            request.target,
            b" HTTP/1.1\r\nHost: ",
            host,
            b"\r\n",
            request.lines,
            lines,
            b"X-Forwarded-Host: ",
            forwarded_host,
            b"\r\nX-Request-Id: ",
            request_id,
            b"\r\n",
        )
    )


def passed_head(answer: Response, framing: Framing) -> bytes:
    """The lines of a backend's answer for our client, all but our own. `framing`: how its body will end there."""
    return answer.head if framing is answer.framing else answer.lines + framing_line(framing, answer.length)


def switching_head(head: ResponseHead, lines: bytes, protocols: list[bytes], own_lines: tuple[bytes, ...]) -> bytes:
    """The 101 with which a tunnel begins. `lines`: the fields of the backend's that pass."""
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
    """The head of an answer that the edge makes itself."""
    return b"".join(
        (
            own_status_line(page.status),
            page.lines,
            b"Content-Length: %d\r\n" % len(page.body),
            *own_lines,
        )
    )


def connection_line(request: Request, *, keep_alive: bool) -> bytes:
    """The last line of an answer's head, and the blank one. Silence means "go on" in HTTP/1.1 only."""
    if keep_alive:
        return b"\r\n" if request.minor else b"Connection: keep-alive\r\n\r\n"
    return b"Connection: close\r\n\r\n"


def joined(pieces: list[bytes]) -> list[bytes]:
    """The same bytes in a few pieces."""
    return [b"".join(pieces)] if len(pieces) > MANY else pieces


def chunk(pieces: list[bytes]) -> list[bytes]:
    """These pieces as one chunk (RFC 9112, section 7.1). An empty one would mean the end."""
    pieces = joined(pieces)
    size = sum(map(len, pieces))
    return [b"%x\r\n" % size, *pieces, b"\r\n"] if size else []
