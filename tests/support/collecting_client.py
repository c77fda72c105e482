"""A client without a connection: it collects what its exchange hands over, by meaning."""

import asyncio
from math import inf

from edge.net.checked_exchange import checked_exchange
from edge.net.client import TunnelSide
from edge.net.exchange import Exchange
from edge.net.worker_context import WorkerContext
from edge.rules.http.head_validation import Response
from edge.rules.http.hop_by_hop import ClientInfo
from edge.rules.http.local_reply import LocalReply
from edge.rules.http.messages import ResponseHead

CHECKED = checked_exchange()


class CollectingClient:
    """A `Client` that asks once."""

    protocol = ""
    stream = 0

    def __init__(self, context: WorkerContext, *, trusted: bool = False) -> None:
        self._context = context
        self.info = ClientInfo("192.0.2.7", port=80, trusted=trusted, via=b"styx")
        self.deadline = inf
        self.writable = True
        self.paused = False
        self.deferred = False
        self.interims: list[int] = []
        self.response: Response | None = None
        self.local_reply: LocalReply | None = None
        self.body = b""
        self.trailers = b""
        self.is_complete = False
        "The last byte of the response was handed over."
        self.ending = ""
        "How the exchange ended: end or abort."
        self.ended = asyncio.Event()

    def ask(self, head: bytes, *body: bytes, more: bool = False) -> Exchange:
        """Send a request with this head, through its blank line, and these pieces of its body. `more`: that is not
        all of it."""
        request = self._context.head_reader.request(head)
        exchange = CHECKED(self, self._context, request)
        for number, piece in enumerate(body, 1):
            exchange.body([piece], done=number == len(body) and not more)
        exchange.begin()
        return exchange

    @property
    def status(self) -> int:
        """Of the response, whoever made it; 0 = there is none."""
        if self.local_reply is not None:
            return self.local_reply.status
        return self.response.status if self.response is not None else 0

    # Client

    def pause_body(self) -> None:
        self.paused = True

    def resume_body(self) -> None:
        self.paused = False

    def note_buffers(self) -> None:
        """Nobody counts them."""

    def send_interim(self, head: ResponseHead) -> None:
        assert not self.status, "an interim response behind the final one"
        self.interims.append(head.status)

    def send_response(
        self,
        answer: Response,
        request_id: bytes,
        backend: bytes,
        pieces: list[bytes],
        size: int,
        *,
        done: bool,
        trailers: bytes,
    ) -> None:
        assert not self.status, "a second response"
        assert size == sum(map(len, pieces))
        self.response = answer
        self.send_body(pieces, done=done, trailers=trailers)

    def send_body(self, pieces: list[bytes], *, done: bool, trailers: bytes) -> None:
        assert self.response is not None
        assert not self.is_complete
        self.body += b"".join(pieces)
        if done:
            self.trailers = trailers
            self.is_complete = True

    def send_local_reply(self, page: LocalReply, request_id: bytes) -> None:
        assert not self.status, "a second response"
        self.local_reply = page
        self.body = page.body
        self.is_complete = True

    def switch(self, head: ResponseHead, protocols: list[bytes], request_id: bytes, backend: bytes) -> TunnelSide:
        raise AssertionError("it has no connection to give away")

    def end(self, now: float) -> None:
        assert self.is_complete
        self._end("end")

    def abort(self) -> None:
        assert not self.is_complete
        self._end("abort")

    def _end(self, how: str) -> None:
        assert not self.ending
        self.ending = how
        self.ended.set()
